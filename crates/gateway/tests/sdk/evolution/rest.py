"""Every method of the client that has to do with events, and what is not offered."""

import json
import os
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

from evolutionapi.client import EvolutionClient
from evolutionapi.exceptions import EvolutionAPIError, EvolutionAuthenticationError
from evolutionapi.exceptions import EvolutionNotFoundError
from evolutionapi.models.instance import InstanceConfig
from evolutionapi.models.websocket import WebSocketConfig

BASE_URL, KEY = os.environ["BASE_URL"], os.environ["KEY"]


def refused(call, error):
    try:
        call()
    except error as caught:
        return str(caught)
    raise AssertionError(f"{error} was expected")


client = EvolutionClient(base_url=BASE_URL, api_token=KEY)
made = client.instances.create_instance(
    InstanceConfig(instanceName="shop", integration="WHATSAPP-BAILEYS", qrcode=True)
)
assert made["instance"]["instanceName"] == "shop", made
token = made["hash"]
assert [row["name"] for row in client.instances.fetch_instances()] == ["shop"]

operations = client.instance_operations
state = operations.get_connection_state("shop", token)
assert state == {"instance": {"instanceName": "shop", "state": "close"}}, state
assert operations.connect("shop", token)["base64"] is None
assert operations.restart("shop", token)["instance"]["state"] == "close"
assert operations.logout("shop", token)["status"] == "SUCCESS"
refused(lambda: operations.get_connection_state("shop", "wrong"), EvolutionAuthenticationError)
refused(lambda: operations.get_connection_state("nobody", KEY), EvolutionNotFoundError)

# Sockets.
wanted = WebSocketConfig(enabled=True, events=["MESSAGES_UPSERT", "CONNECTION_UPDATE"])
row = client.websocket.set_websocket("shop", wanted, token)
assert row["enabled"] is True, row
found = client.websocket.find_websocket("shop", token)
assert found.enabled and sorted(found.events) == sorted(wanted.events)

# Webhooks: the client has no method of its own for them, but for what it receives.
got = []


class Hook(BaseHTTPRequestHandler):
    def do_POST(self):
        got.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.end_headers()
        arrived.set()

    def log_message(self, *_):
        pass


arrived = threading.Event()
server = HTTPServer(("127.0.0.1", 0), Hook)
threading.Thread(target=server.serve_forever, daemon=True).start()
row = client.post(
    "webhook/set/shop",
    data={
        "webhook": {
            "enabled": True,
            "url": f"http://127.0.0.1:{server.server_port}/",
            "events": ["MESSAGES_UPSERT"],
        }
    },
    instance_token=token,
)
assert row["enabled"] is True and client.get("webhook/find/shop", token) == row
address = {"id": "5511999990001@s.whatsapp.net", "kind": "user"}
event = {
    "type": "message.received",
    "data": {
        "message": {"id": "3EB0", "chat": address["id"], "from_me": False},
        "chat": address,
        "sender": address,
        "content": {"kind": "text", "body": "Hello"},
    },
}
request = urllib.request.Request(
    f"{BASE_URL}/v1/instances/shop/events",
    data=json.dumps(event).encode(),
    headers={"authorization": f"Bearer {os.environ['ADMIN_TOKEN']}"},
)
urllib.request.urlopen(request).read()
assert arrived.wait(60), "nothing was posted"
message = client.convert_message(got[0])
assert message is not None and client.get_message_content(got[0]["data"]) == "Hello", got
server.shutdown()

# What an event bus does not do is said, and nothing is deleted by it.
said = client.post("message/sendText/shop", data={"number": "1", "text": "x"}, instance_token=token)
assert said["status"] == 501 and "Zapbus" in said["response"]["message"][0], said
refused(lambda: client.get("chat/findChats/shop", token), EvolutionAPIError)

assert operations.delete("shop", token)["response"]["message"] == "Instance deleted"
assert client.instances.fetch_instances() == []
