"""A gateway that a program starts and kills itself, on one port."""

import asyncio
import os
import socket
import subprocess

import httpx

from world import ADMIN_TOKEN, CLIENT_SECRET, CLIENT_TOKEN, until_async


def free_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return "127.0.0.1:%d" % free.getsockname()[1]


async def start(folder, address):
    environment = {
        "PATH": os.environ["PATH"],
        "ZAPBUS_ADMIN_TOKEN": ADMIN_TOKEN,
        "ZAPBUS_BOOTSTRAP_CLIENT_TOKEN": CLIENT_TOKEN,
        "ZAPBUS_BOOTSTRAP_CLIENT_SECRET": CLIENT_SECRET,
        # Connections here are short: what was on its way five times is not given up.
        "ZAPBUS_REALTIME_MAX_DELIVERIES": "1000",
    }
    gateway = subprocess.Popen(
        [os.environ["ZAPBUS_BINARY"], "serve", "--listen", address, "--data-dir", "data"],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def is_ready():
        assert gateway.poll() is None, "the gateway has ended"
        try:
            return httpx.get(f"http://{address}/readyz", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    await until_async(is_ready, "the gateway is ready")
    return gateway


async def kill(gateway):
    gateway.kill()
    await asyncio.to_thread(gateway.wait)
