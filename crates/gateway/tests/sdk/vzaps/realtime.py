"""The realtime programs of the SDK's documentation, as they stand, and what they are promised."""

import asyncio

from vzaps import AsyncVZapsClient

from world import CONNECTED, CREDENTIALS, DISCONNECTED, PATIENCE, message, receipt, say, until_async as until


async def documented(client, id, token):
    """Subscribe, `on`, `All`, `on_open`, `close`, `wait_closed`."""
    seen, everything, opened, errors = [], [], [], []
    async with client.events.subscribe(
        instance_id=id,
        instance_token=token,
        events=["Message", "ReadReceipt", "Connected", "Disconnected"],
        reconnect=True,
        max_retries=10,
        retry_delay_seconds=0.1,
    ) as subscription:

        @subscription.on_open
        async def on_open():
            opened.append(True)

        @subscription.on("Message")
        async def on_message(event):
            seen.append(event)

        @subscription.on("All")
        async def on_all(event):
            everything.append(event.type)

        @subscription.on_error
        async def on_error(error):
            errors.append(error)

        await until(lambda: opened, "it opens")
        [first] = say(id, message("one", "hello"))
        say(id, receipt("one"), CONNECTED, DISCONNECTED)
        await until(lambda: len(everything) == 4, "everything arrives")
        event = seen[0]
        assert (event.id, event.instance_id, event.type) == (first, id, "Message")
        assert event.data["event"]["message"]["conversation"] == "hello"
        assert everything == ["Message", "ReadReceipt", "Connected", "Disconnected"]
        assert not errors, errors
        await subscription.close()
        await subscription.wait_closed()
    return first


async def resumed(client, id, token, after):
    """What happens meanwhile is not missed, and what was acknowledged does not come again."""
    meanwhile = say(id, message("two"), message("three"))
    got = []
    async with client.events.subscribe(
        instance_id=id,
        instance_token=token,
        events=["Message", "ReadReceipt", "Connected", "Disconnected"],
        last_event_id=after,
    ) as subscription:
        subscription.on("Message", lambda event: got.append(event.id))
        await until(lambda: len(got) == 2, "what happened meanwhile arrives")
        assert got == meanwhile, (got, meanwhile)


async def raised(client, id, token):
    """A handler that raises gets the event again, though the SDK's cursor has moved past it."""
    got, fails = [], True

    def handle(event):
        got.append(event.id)
        if fails and event.id == got[0]:
            raise RuntimeError("not now")

    options = {"instance_id": id, "instance_token": token, "events": ["Message"]}
    async with client.events.subscribe(**options) as subscription:
        opened = []
        subscription.on_open(lambda: opened.append(True))
        subscription.on("Message", handle)
        await until(lambda: opened, "it opens")
        bad, good = say(id, message("bad"), message("good"))
        await until(lambda: got == [bad, good], "both are sent")
    fails = False
    again = []
    async with client.events.subscribe(**options, last_event_id=good) as subscription:
        subscription.on("Message", lambda event: again.append(event.id))
        await until(lambda: again == [bad], "the one that failed comes again")


async def exhausted(id):
    """`max_retries` ends a subscription to a gateway that is away."""
    errors = []
    away = {**CREDENTIALS, "realtime_url": "ws://127.0.0.1:9"}
    async with AsyncVZapsClient(**away) as client:
        subscription = client.events.subscribe(
            instance_id=id, instance_token="x", max_retries=2, retry_delay_seconds=0.01
        )
        subscription.on_error(errors.append)
        await subscription.open()
        await asyncio.wait_for(subscription.wait_closed(), PATIENCE)
    assert len(errors) == 3, errors


async def main():
    async with AsyncVZapsClient(**CREDENTIALS) as client:
        made = await client.instances.create(name="shop")
        id, token = made["id"], made["token"]
        first = await documented(client, id, token)
        await resumed(client, id, token, first)
        other = await client.instances.create(name="other")
        await raised(client, other["id"], other["token"])
        await exhausted(id)


asyncio.run(main())
