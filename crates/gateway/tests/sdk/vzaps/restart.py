"""A subscription outlives restarts of the gateway, and misses nothing: the program starts and stops
the gateway itself, on one port."""

import asyncio
import os
import socket
import subprocess
import tempfile

import httpx

from vzaps import AsyncVZapsClient

from world import ADMIN_TOKEN, CLIENT_SECRET, CLIENT_TOKEN, message, say, until_async

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    ADDRESS = "127.0.0.1:%d" % free.getsockname()[1]
BASE_URL = f"http://{ADDRESS}"


async def start(folder):
    environment = {
        "PATH": os.environ["PATH"],
        "ZAPBUS_ADMIN_TOKEN": ADMIN_TOKEN,
        "ZAPBUS_BOOTSTRAP_CLIENT_TOKEN": CLIENT_TOKEN,
        "ZAPBUS_BOOTSTRAP_CLIENT_SECRET": CLIENT_SECRET,
    }
    gateway = subprocess.Popen(
        [os.environ["ZAPBUS_BINARY"], "serve", "--listen", ADDRESS, "--data-dir", "data"],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def is_ready():
        assert gateway.poll() is None, "the gateway has ended"
        try:
            return httpx.get(f"{BASE_URL}/readyz", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    await until_async(is_ready, "the gateway is ready")
    return gateway


async def main(folder):
    gateway = await start(folder)
    got, opened, errors = [], [], []
    async with AsyncVZapsClient(
        client_token=CLIENT_TOKEN,
        client_secret=CLIENT_SECRET,
        base_url=BASE_URL,
        realtime_url=f"ws://{ADDRESS}",
    ) as client:
        made = await client.instances.create(name="shop")
        async with client.events.subscribe(
            instance_id=made["id"],
            instance_token=made["token"],
            events=["Message"],
            retry_delay_seconds=0.05,
        ) as subscription:
            subscription.on_open(lambda: opened.append(True))
            subscription.on_error(errors.append)
            subscription.on("Message", lambda event: got.append(event.id))
            await until_async(lambda: opened, "it opens")
            said = say(made["id"], message("before"), base_url=BASE_URL)
            await until_async(lambda: got == said, "the first arrives")
            for end in (gateway.terminate, gateway.kill):
                end = getattr(gateway, end.__name__)
                end()
                await asyncio.to_thread(gateway.wait)
                gateway = await start(folder)
                # Before the subscription is back, perhaps, and after.
                said += say(made["id"], message(f"{len(said)}"), base_url=BASE_URL)
                times = len(opened)
                await until_async(lambda: said[-1] in got, "it goes on where it was")
                assert len(opened) >= times
            # At least once each, first arrivals in order.
            assert list(dict.fromkeys(got)) == said, (got, said)
            await subscription.close()
    gateway.terminate()
    gateway.wait()


with tempfile.TemporaryDirectory() as folder:
    asyncio.run(main(folder))
