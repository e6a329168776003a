"""What the programs here need besides the SDK: a receiver of webhooks, and events to receive."""

import asyncio
import http.server
import json
import os
import threading
import time

import httpx

BASE_URL = os.environ.get("BASE_URL", "")
REALTIME_URL = BASE_URL.replace("http", "ws", 1)
ADMIN_TOKEN = os.environ["ADMIN_TOKEN"]
CLIENT_TOKEN = os.environ["CLIENT_TOKEN"]
CLIENT_SECRET = os.environ["CLIENT_SECRET"]
CREDENTIALS = {
    "client_token": CLIENT_TOKEN,
    "client_secret": CLIENT_SECRET,
    "base_url": BASE_URL,
    "realtime_url": REALTIME_URL,
}

PATIENCE = 60


def say(instance, *events, base_url=None):
    """Posts events as a source of the instance does, and returns their ids."""
    answer = httpx.post(
        f"{base_url or BASE_URL}/v1/instances/{instance}/events",
        headers={"Authorization": f"Bearer {ADMIN_TOKEN}"},
        json=list(events),
        timeout=30,
    )
    answer.raise_for_status()
    return [result["id"] for result in answer.json()["results"]]


def subscriber(instance):
    """What the gateway keeps of the client of an instance: that of its only subscription."""

    def ask(path):
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        answer = httpx.get(f"{BASE_URL}{path}", headers=headers, timeout=30)
        answer.raise_for_status()
        return answer.json()

    [found] = ask(f"/v1/subscribers?instance={instance}")["data"]
    return ask(f"/v1/subscribers/{found['id']}")


def message(id, text="hello", chat="5511999990001@s.whatsapp.net"):
    address = {"id": chat, "kind": "user"}
    return {
        "type": "message.received",
        "id": id,
        "data": {
            "message": {"id": id, "chat": chat, "from_me": False},
            "chat": address,
            "sender": address,
            "content": {"kind": "text", "body": text},
        },
    }


def receipt(id, status="read"):
    address = {"id": "5511999990001@s.whatsapp.net", "kind": "user"}
    return {
        "type": "message.status",
        "data": {
            "message": {"id": id, "chat": address["id"], "from_me": True},
            "chat": address,
            "sender": {"id": "5511999990000@s.whatsapp.net", "kind": "user"},
            "recipient": address,
            "status": status,
        },
    }


CONNECTED = {"type": "instance.connected", "data": {}}
DISCONNECTED = {"type": "instance.disconnected", "data": {"reason": "network"}}


def until(ask, what):
    """Asks until the answer is true."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = ask()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"never happened: {what}")


async def until_async(ask, what):
    """The same, among coroutines."""
    deadline = time.monotonic() + PATIENCE
    while not ask():
        assert time.monotonic() < deadline, f"never happened: {what}"
        await asyncio.sleep(0.02)


class Receiver:
    """Answers the first requests with the given statuses, then 200; keeps their bodies."""

    def __init__(self, *statuses):
        self.got = []
        replies = list(statuses)
        got = self.got

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                got.append((headers, json.loads(body)))
                self.send_response(replies.pop(0) if replies else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
