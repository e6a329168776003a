"""Subscriptions outlive a gateway that is killed in mid-stream again and again, and miss nothing: ours
with a name, without one, VZaps's events through ours, and through VZaps's own package."""

import asyncio
import os
import tempfile

import httpx

import vzaps
import zapbus
import zapbus.vzaps
from gateway import free_address, kill, start
from world import ADMIN_TOKEN, CLIENT_SECRET, CLIENT_TOKEN, message, until_async

KILLS = int(os.environ.get("KILLS", "20"))
ADDRESS = free_address()
URL = f"http://{ADDRESS}"


async def post(instance, stored, stop):
    """Posts events one after the other; those that are answered are owed to everybody."""
    async with httpx.AsyncClient(timeout=5) as client:
        number = 0
        while not stop.is_set():
            number += 1
            event = message(f"m{number}", chat=f"{number % 5}@s.whatsapp.net")
            try:
                answer = await client.post(
                    f"{URL}/v1/instances/{instance}/events",
                    headers={"Authorization": f"Bearer {ADMIN_TOKEN}"},
                    json=[event],
                )
                stored += [result["id"] for result in answer.json()["results"]]
            except (httpx.HTTPError, KeyError, ValueError):
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.002)


async def native(client, instance, seen, opened, **options):
    async with client.subscribe(
        instance, types=["message.*"], retry_pause=0.02, longest_retry_pause=0.2, **options
    ) as events:
        opened.append(True)
        async for item in events:
            assert isinstance(item, zapbus.Event), item
            seen.append(item.id)
            item.ack()


async def realtime(package, made, events, seen, opened):
    async with package.AsyncVZapsClient(
        client_token=CLIENT_TOKEN,
        client_secret=CLIENT_SECRET,
        base_url=URL,
        realtime_url=f"ws://{ADDRESS}",
    ) as client:
        async with client.events.subscribe(
            instance_id=made["ids"]["vzaps"],
            instance_token=made["token"],
            events=events,
            retry_delay_seconds=0.02,
        ) as subscription:
            subscription.on_open(lambda: opened.append(True))
            subscription.on_error(lambda error: None)
            subscription.on("Message", lambda event: seen.append(event.id))
            await subscription.wait_closed()


async def main(folder):
    gateway = await start(folder, ADDRESS)
    client = zapbus.AsyncClient(url=URL, token=ADMIN_TOKEN)
    made = await client.instances.create(name="shop")
    names = ["named", "unnamed", "zapbus.vzaps", "vzaps"]
    seen = {name: [] for name in names}
    opened = {name: [] for name in names}
    tasks = [
        asyncio.create_task(native(client, "shop", seen["named"], opened["named"], subscriber="crm")),
        asyncio.create_task(native(client, "shop", seen["unnamed"], opened["unnamed"])),
        asyncio.create_task(
            realtime(zapbus.vzaps, made, ["Message"], seen["zapbus.vzaps"], opened["zapbus.vzaps"])
        ),
        # Another choice of events: with the same one, both would be one subscriber, and what one of
        # them has acknowledged need not reach the other.
        asyncio.create_task(
            realtime(vzaps, made, ["Message", "Connected"], seen["vzaps"], opened["vzaps"])
        ),
    ]
    await until_async(lambda: all(opened.values()), "all are connected")
    stored, stop = [], asyncio.Event()
    posting = asyncio.create_task(post("shop", stored, stop))
    for _ in range(KILLS):
        before = len(stored)
        await until_async(lambda: len(stored) > before + 10, "events are stored")
        await kill(gateway)
        gateway = await start(folder, ADDRESS)
    before = len(stored)
    await until_async(lambda: len(stored) > before + 10, "events are stored")
    stop.set()
    await posting

    def missing(name):
        return set(stored) - set(seen[name])

    for name in names:
        await until_async(lambda: not missing(name), f"{name}: nothing is missing")
    assert all(not task.done() for task in tasks), tasks
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for name in names:
        print(f"{name}: {len(stored)} events, {len(seen[name])} arrivals, {KILLS} kills")
    gateway.terminate()
    gateway.wait()


with tempfile.TemporaryDirectory() as folder:
    asyncio.run(main(folder))
