"""Reads a pull subscription: MALOTE_TOKEN=malote_pull_... python3 pull.py http://127.0.0.1:8081 NAME"""

import json
import os
import sys
from urllib.request import Request, urlopen

api = f"{sys.argv[1]}/api/v1/subscriptions/{sys.argv[2]}"
headers = {"authorization": f"Bearer {os.environ['MALOTE_TOKEN']}", "content-type": "application/json"}

while True:
    with urlopen(Request(f"{api}/events?wait=30", headers=headers), timeout=60) as answer:
        for line in answer:
            event = json.loads(line)
            print(event["id"], event["type"], json.dumps(event.get("data")), flush=True)
        position = {"position": answer.headers["malote-position"]}
    # Only now are they delivered: until their position is stored, the same events are given again.
    urlopen(Request(f"{api}/cursor", json.dumps(position).encode(), headers, method="PUT"), timeout=60).close()
