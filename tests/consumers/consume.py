"""Consumes the queue of a subscription: AMQP_URL=amqp://user:password@host/vhost python3 consume.py subscription.NAME"""

import os
import sys

import pika

connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
channel.basic_qos(prefetch_count=50)
for delivery, event, body in channel.consume(sys.argv[1]):
    print(event.message_id, event.type, body.decode(), flush=True)
    channel.basic_ack(delivery.delivery_tag)  # Only now is it delivered.
