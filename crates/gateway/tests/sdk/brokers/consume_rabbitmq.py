"""Consumes a queue of RabbitMQ until COUNT different messages have come, and prints each as a line
of JSON, in the order of arrival."""

import json
import os
import sys

import pika

parameters = pika.URLParameters(os.environ["AMQP_URI"])
queue = os.environ["QUEUE"]
count = int(os.environ["COUNT"])
connection = pika.BlockingConnection(parameters)
channel = connection.channel()
channel.basic_qos(prefetch_count=1000)
seen = set()
for method, properties, body in channel.consume(queue, inactivity_timeout=30):
    if method is None:
        sys.exit(f"{len(seen)} of {count} have come")
    if properties.message_id not in seen:
        print(
            json.dumps(
                {
                    "exchange": method.exchange,
                    "routing_key": method.routing_key,
                    "id": properties.message_id,
                    "type": properties.type,
                    "content_type": properties.content_type,
                    "delivery_mode": properties.delivery_mode,
                    "timestamp": properties.timestamp,
                    "headers": properties.headers,
                    "body": json.loads(body),
                }
            )
        )
        seen.add(properties.message_id)
    channel.basic_ack(method.delivery_tag)
    if len(seen) == count:
        break
channel.cancel()
connection.close()
