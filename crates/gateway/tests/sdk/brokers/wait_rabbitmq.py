"""Waits until a queue of RabbitMQ is there, with nothing in it."""

import os
import time

import pika

parameters = pika.URLParameters(os.environ["AMQP_URI"])
deadline = time.monotonic() + 30
while True:
    connection = pika.BlockingConnection(parameters)
    try:
        found = connection.channel().queue_declare(os.environ["QUEUE"], passive=True)
        assert found.method.message_count == 0, found
        break
    except pika.exceptions.ChannelClosedByBroker:
        if time.monotonic() > deadline:
            raise
        time.sleep(0.2)
    finally:
        connection.close()
