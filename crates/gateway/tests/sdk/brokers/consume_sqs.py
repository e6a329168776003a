"""Receives from a queue of SQS until COUNT different messages have come, and prints each as a line
of JSON, in the order of arrival."""

import json
import os
import sys
import time

import boto3

sqs = boto3.client(
    "sqs",
    endpoint_url=os.environ["ENDPOINT"],
    region_name="us-east-1",
    aws_access_key_id="AKIAEXAMPLE",
    aws_secret_access_key="secret",
)

# It is created with the first event.
deadline = time.monotonic() + 30
while True:
    try:
        url = sqs.get_queue_url(QueueName=os.environ["QUEUE"])["QueueUrl"]
        break
    except sqs.exceptions.QueueDoesNotExist:
        if time.monotonic() > deadline:
            raise
        time.sleep(0.2)
count = int(os.environ["COUNT"])
seen = set()
empty = 0
while len(seen) < count:
    answer = sqs.receive_message(
        QueueUrl=url,
        MaxNumberOfMessages=10,
        WaitTimeSeconds=2,
        MessageAttributeNames=["All"],
        AttributeNames=["All"],
    )
    messages = answer.get("Messages", [])
    empty = 0 if messages else empty + 1
    if empty == 10:
        sys.exit(f"{len(seen)} of {count} have come")
    for message in messages:
        attributes = {
            name: value["StringValue"] for name, value in message["MessageAttributes"].items()
        }
        if attributes["id"] not in seen:
            own = message["Attributes"]
            print(
                json.dumps(
                    {
                        "id": attributes["id"],
                        "attributes": attributes,
                        "group": own.get("MessageGroupId"),
                        "deduplication": own.get("MessageDeduplicationId"),
                        "body": json.loads(message["Body"]),
                    }
                )
            )
            seen.add(attributes["id"])
        sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
