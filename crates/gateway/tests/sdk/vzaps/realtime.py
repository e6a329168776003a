"""The realtime programs of the SDK's documentation, as they stand, and what they are promised."""

import asyncio

from vzaps import AsyncVZapsClient, VZapsClient

from world import (
    CONNECTED,
    CREDENTIALS,
    DISCONNECTED,
    PATIENCE,
    message,
    receipt,
    say,
    subscriber,
    until_async as until,
)


async def documented(client, id, token):
    """Subscribe, `on`, `off`, `All`, `on_open`, `on_error`, `on_close`, `close`, `wait_closed`."""
    seen, everything, unwanted, opened, closed, errors = [], [], [], [], [], []
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

        @subscription.on_close
        async def on_close():
            closed.append(True)

        subscription.on("Message", unwanted.append)
        subscription.off("Message", unwanted.append)

        await until(lambda: opened, "it opens")
        [first] = say(id, message("one", "hello"))
        say(id, receipt("one"), CONNECTED, DISCONNECTED)
        await until(lambda: len(everything) == 4, "everything arrives")
        event = seen[0]
        assert (event.id, event.instance_id, event.type) == (first, id, "Message")
        assert event.data["event"]["message"]["conversation"] == "hello"
        assert everything == ["Message", "ReadReceipt", "Connected", "Disconnected"]
        assert not unwanted and not errors, (unwanted, errors)
        await until(lambda: subscriber(id)["unacked"] == 0, "the gateway hears every acknowledgement")
        assert not closed
        await subscription.close()
        await subscription.wait_closed()
    assert closed == [True], closed
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
        await until(lambda: subscriber(id)["unacked"] == 1, "one of them waits")
    fails = False
    again = []
    async with client.events.subscribe(**options, last_event_id=good) as subscription:
        subscription.on("Message", lambda event: again.append(event.id))
        await until(lambda: again == [bad], "the one that failed comes again")
        await until(lambda: subscriber(id)["unacked"] == 0, "now nothing waits")
    assert subscriber(id)["dead"] == []


async def parked(client, id, token):
    """What a handler cannot deal with is parked after five times, and the rest goes on."""
    options = {"instance_id": id, "instance_token": token, "events": ["Message"]}
    bad = None
    for delivery in range(1, 6):
        got = []

        def handle(event):
            got.append(event.id)
            if event.id == bad:
                raise RuntimeError("never")

        async with client.events.subscribe(**options) as subscription:
            opened = []
            subscription.on_open(lambda: opened.append(True))
            subscription.on("Message", handle)
            await until(lambda: opened, "it opens")
            if bad is None:
                [first] = say(id, message("first"))
                await until(lambda: got == [first], "the first is sent")
                got.clear()
                [bad] = say(id, message("poison"))
            await until(lambda: got == [bad], f"it is sent, {delivery} of 5 times")
            await until(lambda: subscriber(id)["unacked"] == 1, "it waits")
    [after] = say(id, message("after"))
    got = []
    async with client.events.subscribe(**options) as subscription:
        subscription.on("Message", lambda event: got.append(event.id))
        await until(lambda: got == [after], "only what came after it is sent")
        await until(lambda: subscriber(id)["unacked"] == 0, "nothing waits any more")
    [dead] = subscriber(id)["dead"]
    assert (dead["event_id"], dead["deliveries"]) == (bad, 5), dead


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
        poisoned = await client.instances.create(name="poisoned")
        await parked(client, poisoned["id"], poisoned["token"])
        await exhausted(id)
    if VZapsClient.__module__.startswith("zapbus"):
        # Of ours, subscriptions of the client that is not awaited are not awaited either.
        return
    # The other client's subscriptions are the same: it is awaited where they are.
    with VZapsClient(**CREDENTIALS) as client:
        made = client.instances.create(name="plain")
        first = await documented(client, made["id"], made["token"])
        await resumed(client, made["id"], made["token"], first)


asyncio.run(main())
