"""Every method of the SDK's `instances`, `sessions` and `webhooks`, and what is not offered."""

from vzaps import VZapsClient
from vzaps.errors import VZapsAPIError, VZapsAuthenticationError

from world import CONNECTED, CREDENTIALS, Receiver, message, say, until


def refused(call, error, status, code):
    try:
        call()
    except error as caught:
        assert caught.status_code == status, caught
        assert caught.code == code, caught.code
        return str(caught)
    raise AssertionError(f"{status} {code} was expected")


receiver = Receiver(422)
with VZapsClient(**CREDENTIALS) as client:
    assert client.auth.get_access_token().count(".") == 2

    # Instances.
    made = client.instances.create(name="shop", webhook=receiver.url, events_subscribe=["Message"])
    id, token = made["id"], made["token"]
    assert made["webhook"] == receiver.url and made["events_subscribe"] == ["Message"]
    assert client.instances.provision({"name": "other"})["name"] == "other"
    listed = client.instances.list()
    assert (listed["page"], listed["size"], listed["total"]) == (1, 20, 2)
    assert client.instances.list(search="shop")["content"][0]["id"] == id
    assert client.instances.search(filter={"query": "oth"}, size=1)["total"] == 1
    assert client.instances.get(id) == made
    assert client.instances.update(id, instance_token=token, name="store")["name"] == "store"
    assert client.instances.restart(id, instance_token=token)["status"] == "created"
    refused(lambda: client.instances.create(name="store"), VZapsAPIError, 409, "already_exists")
    for call in (
        lambda: client.instances.subscribe(id, {"plan": "x"}),
        lambda: client.instances.resume_subscription(id),
        lambda: client.instances.cancel(id),
    ):
        assert "Zapbus" in refused(call, VZapsAPIError, 501, "not_offered")

    # Sessions.
    assert client.sessions.status(id, instance_token=token).data.connected is False
    say(id, CONNECTED)
    status = client.sessions.status(id, instance_token=token)
    assert (status.code, status.success, status.data.connected) == (200, True, True)
    assert client.sessions.qr(id)["data"]["pairing_status"] == "connected"
    refused(lambda: client.sessions.pair_code(id, "+5511"), VZapsAPIError, 409, "no_pair_code")
    refused(lambda: client.sessions.disconnect(id), VZapsAPIError, 501, "not_offered")

    # What an event bus does not do.
    told = refused(
        lambda: client.messages.send_text(
            instance_id=id, instance_token=token, phone="5511999990001", message="hi"
        ),
        VZapsAPIError,
        501,
        "not_offered",
    )
    assert "does not send or change messages" in told
    refused(lambda: client.groups.list(instance_id=id), VZapsAPIError, 501, "not_offered")
    refused(lambda: client.chats.pin(instance_id=id, phone="1"), VZapsAPIError, 501, "not_offered")

    # Webhooks, as the documentation has it.
    webhook = client.webhooks.get(id, instance_token=token)
    assert webhook == {
        "code": 200,
        "success": True,
        "data": {"webhook": receiver.url, "subscribe": ["Message"]},
    }
    answer = client.webhooks.set(
        instance_id=id,
        instance_token=token,
        webhook_url=receiver.url,
        events=["Message", "ReadReceipt", "Connected", "Disconnected"],
    )
    assert answer["data"]["webhook"] == receiver.url
    assert answer["data"]["events"] == "Message,ReadReceipt,Connected,Disconnected"
    client.webhooks.set(instance_id=id, webhookURL=receiver.url, events="Message,ReadReceipt")
    client.webhooks.set({"instance_id": id, "url": receiver.url, "enabled": True})
    assert client.webhooks.get(id)["data"]["subscribe"] == ["Message", "ReadReceipt"]
    refused(
        lambda: client.webhooks.set(instance_id=id, webhook_url="nowhere"),
        VZapsAPIError,
        400,
        "webhook_url_invalid",
    )

    # Their log.
    [event] = say(id, message("3EB0"))
    logs = until(
        lambda: client.webhooks.search_logs(
            instance_id=id, instance_token=token, status="pending"
        )["data"]["content"],
        "the refusal is in the log",
    )
    assert [(log["event_id"], log["http_status"]) for log in logs] == [(event, 422)]
    assert client.webhooks.search_logs(instance_id=id)["data"]["total"] == 1
    log_id = logs[0]["id"]
    one = client.webhooks.get_log(instance_id=id, instance_token=token, log_id=log_id)
    assert one["data"]["payload"]["id"] == event
    try:
        again = client.webhooks.retry_log(instance_id=id, instance_token=token, log_id=log_id)
        assert (again["data"]["id"], again["data"]["status"]) == (log_id, "pending")
    except VZapsAPIError as busy:
        # Its own schedule was just as quick.
        assert (busy.status_code, busy.code) == (409, "log_in_flight"), busy
    until(
        lambda: client.webhooks.get_log(instance_id=id, log_id=log_id)["data"]["status"] == "success",
        "it is delivered when sent again",
    )
    headers, body = receiver.got[-1]
    assert headers["x-event-id"] == body["id"] == event and headers["x-instance-id"] == id
    assert body["event"]["message"]["conversation"] == "hello"
    refused(
        lambda: client.webhooks.get_log(instance_id=id, log_id="log/123"),
        VZapsAPIError,
        404,
        "log_not_found",
    )

    # Who may not.
    refused(
        lambda: client.webhooks.get(id, instance_token="wrong"),
        VZapsAuthenticationError,
        401,
        "unauthorized",
    )
    client.instances.delete(id, instance_token=token)
    refused(lambda: client.instances.get(id), VZapsAPIError, 404, "instance_not_found")

with VZapsClient(**{**CREDENTIALS, "client_secret": "wrong"}) as client:
    refused(lambda: client.instances.list(), VZapsAuthenticationError, 401, "unauthorized")
