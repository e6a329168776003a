"""Every method of the asynchronous client's `instances`, `sessions` and `webhooks`."""

import asyncio

from vzaps import AsyncVZapsClient
from vzaps.errors import VZapsAPIError, VZapsAuthenticationError

from world import CONNECTED, CREDENTIALS, Receiver, message, say


async def refused(call, error, status, code):
    try:
        await call
    except error as caught:
        assert (caught.status_code, caught.code) == (status, code), caught
        return str(caught)
    raise AssertionError(f"{status} {code} was expected")


async def main():
    receiver = Receiver(422)
    async with AsyncVZapsClient(**CREDENTIALS) as client:
        assert (await client.auth.get_access_token()).count(".") == 2
        made = await client.instances.create(name="shop")
        id, token = made["id"], made["token"]
        await client.instances.provision({"name": "other"})
        assert (await client.instances.list())["total"] == 2
        assert (await client.instances.list(search="shop"))["content"][0]["id"] == id
        assert (await client.instances.search(size=1))["total_pages"] == 2
        assert await client.instances.get(id) == made
        changed = await client.instances.update(id, instance_token=token, name="store")
        assert changed["name"] == "store"
        assert (await client.instances.restart(id))["instance_id"] == id
        for call in (
            client.instances.subscribe(id, {"plan": "x"}),
            client.instances.resume_subscription(id),
            client.instances.cancel(id),
            client.messages.send_text(instance_id=id, phone="1", message="hi"),
            client.contacts.list(id),
            client.users.info(instance_id=id, phone="1"),
            client.typebots.list(id),
        ):
            assert "Zapbus" in await refused(call, VZapsAPIError, 501, "not_offered")

        assert (await client.sessions.status(id, instance_token=token)).data.connected is False
        say(id, CONNECTED)
        assert (await client.sessions.status(id)).data.connected is True
        assert (await client.sessions.qr(id))["data"]["qr_code"] == ""
        await refused(client.sessions.pair_code(id, "+55"), VZapsAPIError, 409, "no_pair_code")
        await refused(client.sessions.disconnect(id), VZapsAPIError, 501, "not_offered")

        webhook = await client.webhooks.get(id, instance_token=token)
        assert webhook["data"] == {"webhook": "", "subscribe": ["All"]}
        answer = await client.webhooks.set(
            instance_id=id,
            instance_token=token,
            webhook_url=receiver.url,
            events=["Message", "ReadReceipt", "Connected", "Disconnected"],
        )
        assert answer["data"]["events"] == "Message,ReadReceipt,Connected,Disconnected"
        [event] = say(id, message("3EB0"))
        for _ in range(3000):
            logs = await client.webhooks.search_logs(instance_id=id, status="pending")
            if logs["data"]["total"]:
                break
            await asyncio.sleep(0.02)
        log_id = logs["data"]["content"][0]["id"]
        one = await client.webhooks.get_log(instance_id=id, instance_token=token, log_id=log_id)
        assert one["data"]["event_id"] == event and one["data"]["payload"]["type"] == "Message"
        for _ in range(3000):
            one = await client.webhooks.get_log(instance_id=id, log_id=log_id)
            if one["data"]["status"] == "success":
                break
            try:
                again = await client.webhooks.retry_log(instance_id=id, log_id=log_id)
                assert again["data"]["status"] == "pending"
            except VZapsAPIError as busy:
                assert (busy.status_code, busy.code) == (409, "log_in_flight"), busy
            await asyncio.sleep(0.02)
        assert one["data"]["status"] == "success", one
        assert [body["id"] for _, body in receiver.got][-1] == event
        await client.instances.delete(id)
        await refused(client.instances.get(id), VZapsAPIError, 404, "instance_not_found")

    async with AsyncVZapsClient(**{**CREDENTIALS, "client_secret": "wrong"}) as client:
        await refused(client.instances.list(), VZapsAuthenticationError, 401, "unauthorized")


asyncio.run(main())
