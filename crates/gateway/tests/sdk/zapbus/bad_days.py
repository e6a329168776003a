"""What the Python package does when things go wrong. docs/clients/README.md says the same in words."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time

import zapbus
import zapbus.vzaps
from world import ADMIN_TOKEN, BASE_URL, CREDENTIALS, message, say, until, until_async


def threads():
    return {thread.name for thread in threading.enumerate()}


async def handlers(made):
    """A handler that raises, is cancelled inside, or blocks; what is told, and what comes again."""
    errors, got = [], []
    bad = {"raises", "cancels"}
    async with zapbus.vzaps.AsyncVZapsClient(**CREDENTIALS) as client:
        options = {"instance_id": made["id"], "instance_token": made["token"], "events": ["Message"]}
        async with client.events.subscribe(**options) as subscription:
            opened = asyncio.Event()
            subscription.on_open(opened.set)
            subscription.on_error(errors.append)

            @subscription.on("Message")
            async def handle(event):
                name = event.data["event"]["info"]["id"]
                got.append(name)
                if name == "raises" and name in bad:
                    raise ValueError("not now")
                if name == "cancels" and name in bad:
                    inner = asyncio.ensure_future(asyncio.sleep(60))
                    inner.cancel()
                    await inner
                if name == "blocks":
                    # Nobody else runs meanwhile, but the connection lives.
                    time.sleep(1)

            await opened.wait()
            say(made["id"], message("raises"), message("cancels"), message("blocks"), message("fine"))
            await until_async(lambda: got == ["raises", "cancels", "blocks", "fine"], "all come")
        assert [type(error) for error in errors] == [zapbus.vzaps.VZapsRealtimeError] * 2, errors
        assert isinstance(errors[0].__cause__, ValueError)
        assert isinstance(errors[1].__cause__, asyncio.CancelledError)
        bad.clear()
        got.clear()
        # What failed was not acknowledged.
        async with client.events.subscribe(**options) as subscription:
            subscription.on("Message", handle)
            await until_async(lambda: got == ["raises", "cancels"], "what failed comes again")

        # Closed by a handler; closed while one hangs.
        subscription = client.events.subscribe(**options)
        subscription.on("Message", lambda event: subscription.close())
        await subscription.open()
        await until_async(lambda: subscription.is_open, "it opens")
        say(made["id"], message("last"))
        await asyncio.wait_for(subscription.wait_closed(), 30)

        # Cancelled from outside: whoever waits for it ends, and so does it.
        async def waiting():
            async with client.events.subscribe(**options) as subscription:
                await subscription.wait_closed()

        task = asyncio.create_task(waiting())
        await asyncio.sleep(0.1)
        task.cancel()
        try:
            await task
            raise AssertionError("it was cancelled")
        except asyncio.CancelledError:
            pass
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert not left, left


async def refused(made):
    """Wrong credentials: said at once, and raised where nobody is told."""
    async with zapbus.vzaps.AsyncVZapsClient(**{**CREDENTIALS, "client_secret": "no"}) as client:
        options = {"instance_id": made["id"], "instance_token": made["token"]}
        for subscription in (
            client.events.subscribe(**options),
            client.events.subscribe(**options, max_retries=3),
        ):
            try:
                async with subscription:
                    await asyncio.wait_for(subscription.wait_closed(), 30)
                raise AssertionError("it was refused")
            except zapbus.vzaps.VZapsRealtimeError as error:
                assert error.status_code == 401, error
        told = []
        subscription = client.events.subscribe(**options)
        subscription.on_error(told.append)
        await subscription.open()
        await asyncio.wait_for(subscription.wait_closed(), 30)
        assert [error.status_code for error in told] == [401]
    async with zapbus.AsyncClient(url=BASE_URL, token="wrong") as client:
        try:
            await client.instances.list().all()
            raise AssertionError("it was refused")
        except zapbus.AuthenticationError as error:
            assert (error.status, error.code) == (401, "unauthenticated")
    async with zapbus.AsyncClient(url="http://127.0.0.1:9", token="x", max_retries=0) as client:
        try:
            await client.subscribe("shop").open()
            raise AssertionError("nobody is there")
        except zapbus.ConnectionFailedError as error:
            assert isinstance(error, ConnectionError)


def threaded(made):
    """A subscription without an event loop, and what it leaves behind."""
    before = threads()
    got = []
    with zapbus.vzaps.VZapsClient(**CREDENTIALS) as client:
        options = {"instance_id": made["id"], "instance_token": made["token"], "events": ["Message"]}
        with client.events.subscribe(**options) as subscription:
            subscription.on("Message", lambda event: got.append(event.id))
            until(lambda: subscription.is_open, "it opens")
            ids = say(made["id"], message("t1"), message("t2"))
            until(lambda: set(ids) <= set(got), "they come")
            try:

                @subscription.on("Message")
                async def handle(event):
                    pass

                raise AssertionError("nobody awaits it")
            except TypeError as error:
                assert "AsyncVZapsClient" in str(error)
        subscription.wait_closed()
    assert threads() == before, threads()


def program(text, *, interrupt_when=None):
    """Runs a program, and interrupts it when it has said something."""
    run = subprocess.Popen(
        [sys.executable, "-u", "-c", text],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if interrupt_when:
        assert run.stdout.readline().strip() == interrupt_when, run.communicate()
        run.send_signal(signal.SIGINT)
    started = time.monotonic()
    out, err = run.communicate(timeout=60)
    return run.returncode, out, err, time.monotonic() - started


NATIVE = f"import zapbus; client = zapbus.Client(url={BASE_URL!r}, token={ADMIN_TOKEN!r})\n"


def interpreters(made):
    """Interrupted while it waits; ended with everything open; forked."""
    waits = NATIVE + (
        "with client.subscribe('shop') as events:\n"
        "    print('open')\n"
        "    try:\n"
        "        events.next()\n"
        "    except KeyboardInterrupt:\n"
        "        print('interrupted')\n"
    )
    code, out, err, took = program(waits, interrupt_when="open")
    assert (code, out, err) == (0, "interrupted\n", "") and took < 20, (code, out, err, took)

    options = json.dumps({"instance_id": made["id"], "instance_token": made["token"]})
    forgets = (
        f"import zapbus.vzaps\nclient = zapbus.vzaps.VZapsClient(**{CREDENTIALS!r})\n"
        f"subscription = client.events.subscribe(**{options})\n"
        "subscription.open()\n"
        "while not subscription.is_open: pass\n"
        "print('ends')\n"
    )
    code, out, err, took = program(forgets)
    assert (code, out, err) == (0, "ends\n", "") and took < 30, (code, out, err, took)

    awaits = (
        f"import asyncio, zapbus\n"
        f"async def main():\n"
        f"    client = zapbus.AsyncClient(url={BASE_URL!r}, token={ADMIN_TOKEN!r})\n"
        f"    events = client.subscribe('shop')\n"
        f"    await events.open()\n"
        f"    asyncio.create_task(events.next())\n"
        f"    await asyncio.sleep(0.1)\n"
        f"    print('ends')\n"
        f"asyncio.run(main())\n"
    )
    code, out, err, took = program(awaits)
    assert (code, out, err) == (0, "ends\n", "") and took < 30, (code, out, err, took)

    forks = NATIVE + (
        "import os\n"
        "client.instances.get('shop')\n"
        "if os.fork() == 0:\n"
        "    try:\n"
        "        client.instances.get('shop')\n"
        "    except RuntimeError as error:\n"
        "        print('make one in each process' in str(error))\n"
        f"    again = zapbus.Client(url={BASE_URL!r}, token={ADMIN_TOKEN!r})\n"
        "    print(again.instances.get('shop')['name'])\n"
        "else:\n"
        "    os.wait()\n"
        "    print(client.instances.get('shop')['name'])\n"
    )
    code, out, err, took = program(forks)
    assert (code, out, err) == (0, "True\nshop\nshop\n", ""), (code, out, err)


with zapbus.vzaps.VZapsClient(**CREDENTIALS) as client:
    made = client.instances.create(name="shop")
asyncio.run(handlers(made))
asyncio.run(refused(made))
threaded(made)
interpreters(made)
