"""Receives a push subscription: WEBHOOK_SECRET=whsec_... python3 push.py PORT"""

import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

webhook = Webhook(os.environ["WEBHOOK_SECRET"])
handled = set()  # In a service: a unique key, written in the transaction of the effect.


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            webhook.verify(body, dict(self.headers), json_parse=False)
        except (WebhookVerificationError, ValueError):
            return self.answer(401)
        event_id = self.headers["webhook-id"]
        if event_id not in handled:  # An event can arrive more than once.
            print(event_id, self.headers["ce-type"], body.decode(), flush=True)
            handled.add(event_id)
        self.answer(204)  # Only now is it delivered.

    def answer(self, status):
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
