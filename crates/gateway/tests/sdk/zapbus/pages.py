"""The programs of VZaps's documentation, as they stand on its pages: only the import line is another.
Where the pages have a made-up token, URL or log, a real one is put in."""

import asyncio
import os
import pathlib
import signal
import subprocess
import sys
import textwrap

import httpx

import zapbus.vzaps
from world import ADMIN_TOKEN, BASE_URL, REALTIME_URL, Receiver, message, receipt, say, until

PAGES = pathlib.Path(__file__).parent / "pages"
INSTANCE = "VZ..."
# As long as the gateway wants them.
TOKEN = "instance-token-of-the-tests"

os.environ["VZAPS_BASE_URL"] = BASE_URL
os.environ["VZAPS_REALTIME_URL"] = REALTIME_URL


def page(name):
    program = (PAGES / f"{name}.py").read_text()
    return program.replace('"instance-token"', f'"{TOKEN}"')


def imported(program):
    """The program, with the one line that changes."""
    assert program.count("from vzaps import") == 1
    return program.replace("from vzaps import", "from zapbus.vzaps import")


def run(program):
    return subprocess.Popen(
        [sys.executable, "-u", "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def subscribers():
    answer = httpx.get(
        f"{BASE_URL}/v1/subscribers", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}
    )
    return [one for one in answer.json()["data"] if one["dialect"] == "vzaps"]


def has_subscribed():
    return len(subscribers()) == 1


made = httpx.post(
    f"{BASE_URL}/v1/instances",
    headers={"Authorization": f"Bearer {ADMIN_TOKEN}"},
    json={"name": INSTANCE, "token": TOKEN},
)
made.raise_for_status()

# The first program, alone: it has no handlers, and acknowledges what comes.
program = run(imported(page("subscribe")))
until(has_subscribed, "it subscribes")
say(made.json()["id"], message("one"))
until(lambda: subscribers()[0]["unacked"] == 0, "what came is acknowledged")
assert program.poll() is None, program.communicate()
program.send_signal(signal.SIGINT)
out, err = program.communicate(timeout=30)
assert program.returncode == -signal.SIGINT and "KeyboardInterrupt" in err, (program.returncode, err)

# With the handlers, and closed by a signal, as the pages put it together.
program = imported(page("subscribe")).splitlines(keepends=True)
wait = next(index for index, line in enumerate(program) if "wait_closed" in line)
put_in = textwrap.indent(page("handlers") + "\n" + page("signal"), " " * 12)
program.insert(wait, put_in + "\n")
program = run("".join(program) + "\nprint('ended')\n")
assert program.stdout.readline() == "Realtime connected\n"
[first] = say(made.json()["id"], message("two", "hello there"))
seen = [program.stdout.readline() for _ in range(4)]
assert seen[0] == f"{first}\n" and seen[1].startswith("VZ"), seen
assert "hello there" in seen[2] and seen[3] == "Received event: Message\n", seen
say(made.json()["id"], receipt("two"))
assert program.stdout.readline() == "Received event: ReadReceipt\n"
program.send_signal(signal.SIGINT)
out, err = program.communicate(timeout=30)
assert (program.returncode, out, err) == (0, "ended\n", ""), (program.returncode, out, err)

# Closed by hand.
program = imported(page("subscribe")).replace("await subscription.wait_closed()", page("close").strip())
program = run(program)
assert program.communicate(timeout=30) == ("", "") and program.returncode == 0

# Webhooks.
receiver = Receiver(422)
with zapbus.vzaps.VZapsClient(
    client_token="your-client-token", client_secret="your-client-secret"
) as client:
    names = {"client": client}
    exec(page("webhook_set").replace("https://example.com/webhooks/vzaps", receiver.url), names)
    exec(page("webhook_get"), names)
    assert names["webhook"] == {
        "code": 200,
        "success": True,
        "data": {
            "webhook": receiver.url,
            "subscribe": ["Message", "ReadReceipt", "Connected", "Disconnected"],
        },
    }
    [event] = say(made.json()["id"], message("three"))

    def logged():
        exec(page("webhook_search_logs").replace('"failed"', '"pending"'), names)
        return names["logs"]["data"]["content"]

    [log] = until(logged, "the refusal is in the log")
    exec(page("webhook_search_logs"), names)
    assert names["logs"]["data"]["content"] == [], "it is tried again, so it has not failed"
    try:
        exec(page("webhook_get_log"), names)
        raise AssertionError("there is no such log")
    except zapbus.vzaps.VZapsAPIError as error:
        assert (error.status_code, error.code) == (404, "log_not_found")
    exec(page("webhook_get_log").replace("log_123", log["id"]), names)
    assert names["log"]["data"]["event_id"] == event
    try:
        exec(page("webhook_retry_log").replace("log_123", log["id"]), names)
    except zapbus.vzaps.VZapsAPIError as busy:
        # Its own schedule was just as quick.
        assert (busy.status_code, busy.code) == (409, "log_in_flight"), busy
    until(lambda: len(receiver.got) > 1, "it is delivered when sent again")


async def awaited():
    """The same calls, awaited."""
    async with zapbus.vzaps.AsyncVZapsClient(
        client_token="your-client-token", client_secret="your-client-secret"
    ) as client:
        token = {"instance_token": TOKEN}
        webhook = await client.webhooks.get(INSTANCE, **token)
        assert webhook["data"]["webhook"] == receiver.url
        await client.webhooks.set(instance_id=INSTANCE, webhook_url=receiver.url, events="Message", **token)
        logs = await client.webhooks.search_logs(instance_id=INSTANCE, **token)
        assert logs["data"]["total"] == 1
        one = await client.webhooks.get_log(instance_id=INSTANCE, log_id=log["id"], **token)
        assert one["data"]["event_id"] == event
        status = await client.sessions.status(INSTANCE, **token)
        assert status.success and isinstance(status.data.connected, bool)
        assert (await client.instances.get(INSTANCE))["name"] == INSTANCE
        listed = await client.instances.list(search="VZ")
        assert listed["total"] == 1
        assert (await client.auth.get_access_token()).count(".") == 2


asyncio.run(awaited())
