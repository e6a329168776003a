"""The resources of the API, awaited and waited for.

Made from the description of the API by clients/generate.py: do not change it by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Optional, Union, cast

from . import models
from ._events import Event
from ._pages import AsyncPages, Pages
from ._transport import AsyncTransport, Transport, given, given_body


class AsyncAccounts:
    """What the API offers under ``accounts``."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        after: Optional[str] = None,
        limit: Optional[int] = None,
    ) -> AsyncPages[models.Account]:
        """Lists the accounts the token reaches."""
        return AsyncPages(self._transport, ["v1", "accounts"], given({"after": after}), limit, None)

    async def create(self, *, name: str, idempotency_key: Optional[str] = None) -> models.Account:
        """Creates an account."""
        answer = await self._transport.ask(
            "POST",
            ["v1", "accounts"],
            [],
            given_body({"name": name}),
            key=idempotency_key,
            keyed=True,
        )
        return cast(models.Account, answer)

    async def get(self, account: str) -> models.Account:
        """Shows an account."""
        answer = await self._transport.ask("GET", ["v1", "accounts", account], [])
        return cast(models.Account, answer)

    async def delete(self, account: str) -> None:
        """Deletes an account that has no instances left."""
        await self._transport.ask("DELETE", ["v1", "accounts", account], [])

    async def change(
        self,
        account: str,
        *,
        name: Optional[str] = None,
        origins: Optional[Sequence[str]] = None,
    ) -> models.Account:
        """Renames an account, or says which web pages may open its live connections."""
        answer = await self._transport.ask(
            "PATCH",
            ["v1", "accounts", account],
            [],
            given_body({"name": name, "origins": origins}),
        )
        return cast(models.Account, answer)


class AsyncCredentials:
    """What the API offers under ``credentials``."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    def list(
        self,
        account: str,
        *,
        after: Optional[str] = None,
        limit: Optional[int] = None,
    ) -> AsyncPages[models.Credential]:
        """Lists the credentials of an account."""
        return AsyncPages(
            self._transport,
            ["v1", "accounts", account, "credentials"],
            given({"after": after}),
            limit,
            None,
        )

    async def create(
        self,
        account: str,
        *,
        name: str,
        client_token: Optional[str] = None,
        expires_at: Optional[str] = None,
        instance: Optional[str] = None,
        role: Optional[Union[Literal["account", "instance"], str]] = None,
        idempotency_key: Optional[str] = None,
    ) -> models.Credential:
        """Creates a credential and shows its secret, this once."""
        answer = await self._transport.ask(
            "POST",
            ["v1", "accounts", account, "credentials"],
            [],
            given_body({
                "client_token": client_token,
                "expires_at": expires_at,
                "instance": instance,
                "name": name,
                "role": role,
            }),
            key=idempotency_key,
            keyed=True,
        )
        return cast(models.Credential, answer)

    async def revoke(self, account: str, credential: str) -> None:
        """Revokes a credential: it is refused from now on."""
        await self._transport.ask(
            "DELETE",
            ["v1", "accounts", account, "credentials", credential],
            [],
        )

    async def expire(
        self,
        account: str,
        credential: str,
        *,
        at: Optional[str] = None,
    ) -> models.Credential:
        """Lets a credential end, now or at a time to come."""
        answer = await self._transport.ask(
            "POST",
            ["v1", "accounts", account, "credentials", credential, "expire"],
            [],
            given_body({"at": at}),
        )
        return cast(models.Credential, answer)

    async def rotate(
        self,
        account: str,
        credential: str,
        *,
        overlap_s: Optional[int] = None,
    ) -> models.Credential:
        """Makes a new secret and shows it. The old one works beside it for a while."""
        answer = await self._transport.ask(
            "POST",
            ["v1", "accounts", account, "credentials", credential, "rotate"],
            [],
            given_body({"overlap_s": overlap_s}),
        )
        return cast(models.Credential, answer)


class AsyncInstances:
    """What the API offers under ``instances``."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        after: Optional[str] = None,
        limit: Optional[int] = None,
    ) -> AsyncPages[models.Instance]:
        """Lists the instances the token reaches. The account's own, `_account`, is not among
        them: ask for it by its name.
        """
        return AsyncPages(
            self._transport,
            ["v1", "instances"],
            given({"after": after}),
            limit,
            None,
        )

    async def create(
        self,
        *,
        name: str,
        token: Optional[str] = None,
        idempotency_key: Optional[str] = None,
    ) -> models.Instance:
        """Creates an instance. An admin creates it in the default account, or in that of the
        header `zapbus-account`.
        """
        answer = await self._transport.ask(
            "POST",
            ["v1", "instances"],
            [],
            given_body({"name": name, "token": token}),
            key=idempotency_key,
            keyed=True,
        )
        return cast(models.Instance, answer)

    async def get(self, instance: str) -> models.Instance:
        """Shows an instance: connection, QR code, who it is."""
        answer = await self._transport.ask("GET", ["v1", "instances", instance], [])
        return cast(models.Instance, answer)

    async def delete(self, instance: str) -> None:
        """Deletes an instance. It takes no more events at once; its destinations still get what
        is waiting, up to the event `instance.lifecycle` with action `deleted`, for ten
        minutes at most.
        """
        await self._transport.ask("DELETE", ["v1", "instances", instance], [])

    async def update(
        self,
        instance: str,
        *,
        media: Optional[models.ChangeInstanceMedia] = None,
        name: Optional[str] = None,
        rotate_token: Optional[bool] = None,
        token: Optional[str] = None,
    ) -> models.Instance:
        """Renames an instance, gives it another token, or says what to do about files."""
        answer = await self._transport.ask(
            "PATCH",
            ["v1", "instances", instance],
            [],
            given_body({
                "media": media,
                "name": name,
                "rotate_token": rotate_token,
                "token": token,
            }),
        )
        return cast(models.Instance, answer)

    async def statistics(self, instance: str) -> models.InstanceStatistics:
        """Shows how an instance and its own destinations did in the last hour and day."""
        answer = await self._transport.ask("GET", ["v1", "instances", instance, "statistics"], [])
        return cast(models.InstanceStatistics, answer)


class AsyncSources:
    """What the API offers under ``sources``."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def get(self, instance: str) -> models.Source:
        """Shows where an instance's events enter, and what to set in a bridged product for that."""
        answer = await self._transport.ask("GET", ["v1", "instances", instance, "source"], [])
        return cast(models.Source, answer)

    async def set(
        self,
        instance: str,
        *,
        type: str,
        access_token: Optional[str] = None,
        app_secret: Optional[str] = None,
        phone_number_id: Optional[str] = None,
        secret: Optional[str] = None,
        verify_token: Optional[str] = None,
    ) -> models.Source:
        """Sets where an instance's events enter. What is posted natively is taken beside any
        source. A change is the event `instance.lifecycle` with action `loaded`.
        """
        answer = await self._transport.ask(
            "PUT",
            ["v1", "instances", instance, "source"],
            [],
            given_body({
                "access_token": access_token,
                "app_secret": app_secret,
                "phone_number_id": phone_number_id,
                "secret": secret,
                "type": type,
                "verify_token": verify_token,
            }),
        )
        return cast(models.Source, answer)

    async def get_of_account(self) -> models.Source:
        """Shows the source that serves all numbers of an account's Meta app."""
        answer = await self._transport.ask("GET", ["v1", "source"], [])
        return cast(models.Source, answer)

    async def set_of_account(
        self,
        *,
        type: str,
        access_token: Optional[str] = None,
        app_secret: Optional[str] = None,
        phone_number_id: Optional[str] = None,
        secret: Optional[str] = None,
        verify_token: Optional[str] = None,
    ) -> models.Source:
        """Sets the source that serves all numbers of an account's Meta app: each change goes to
        the instance with its `phone_number_id`, all else to the account's instance
        `_account`. `native` takes it away.
        """
        answer = await self._transport.ask(
            "PUT",
            ["v1", "source"],
            [],
            given_body({
                "access_token": access_token,
                "app_secret": app_secret,
                "phone_number_id": phone_number_id,
                "secret": secret,
                "type": type,
                "verify_token": verify_token,
            }),
        )
        return cast(models.Source, answer)


class AsyncEvents:
    """What the API offers under ``events``."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def types(self) -> models.EventTypes:
        """Lists every event type with its schema and a sample per dialect."""
        answer = await self._transport.ask("GET", ["v1", "event-types"], [])
        return cast(models.EventTypes, answer)

    def list_all(
        self,
        *,
        after: Optional[str] = None,
        types: Optional[Union[str, Sequence[str]]] = None,
        include_raw: Optional[bool] = None,
        limit: Optional[int] = None,
    ) -> AsyncPages[Event]:
        """Reads the events of all instances of the account, oldest first. With the admin token:
        of all accounts, or of that of the header `zapbus-account`.
        """
        return AsyncPages(
            self._transport,
            ["v1", "events"],
            given({"after": after, "types": types, "include_raw": include_raw}),
            limit,
            Event.of,
        )

    async def get(self, event: str) -> Event:
        """Shows one event, with the untouched upstream element."""
        answer = await self._transport.ask("GET", ["v1", "events", event], [])
        return Event.of(answer)

    def list(
        self,
        instance: str,
        *,
        after: Optional[str] = None,
        types: Optional[Union[str, Sequence[str]]] = None,
        include_raw: Optional[bool] = None,
        limit: Optional[int] = None,
    ) -> AsyncPages[Event]:
        """Reads the events of one instance, oldest first."""
        return AsyncPages(
            self._transport,
            ["v1", "instances", instance, "events"],
            given({"after": after, "types": types, "include_raw": include_raw}),
            limit,
            Event.of,
        )


class AsyncDestinations:
    """What the API offers under ``destinations``."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        global_: Optional[bool] = None,
        instance: Optional[str] = None,
        after: Optional[str] = None,
        limit: Optional[int] = None,
    ) -> AsyncPages[models.Destination]:
        """Lists the destinations the token reaches."""
        return AsyncPages(
            self._transport,
            ["v1", "destinations"],
            given({"global": global_, "instance": instance, "after": after}),
            limit,
            None,
        )

    async def create(
        self,
        *,
        channel: models.ChannelConfig,
        dialect: Optional[str] = None,
        disable_after_s: Optional[int] = None,
        events: Optional[Sequence[str]] = None,
        evolution: Optional[models.EvolutionChoices] = None,
        exclude_ephemeral: Optional[bool] = None,
        fallback: Optional[str] = None,
        include_raw: Optional[bool] = None,
        inline_media: Optional[bool] = None,
        label: Optional[str] = None,
        max_in_flight: Optional[int] = None,
        media_key: Optional[bool] = None,
        ordering: Optional[Union[Literal["none", "key", "strict"], str]] = None,
        rate_limit_per_s: Optional[float] = None,
        retry: Optional[models.Retry] = None,
        ryze: Optional[models.RyzeChoices] = None,
        start: Optional[str] = None,
        wait_for_media_s: Optional[int] = None,
        idempotency_key: Optional[str] = None,
    ) -> models.Destination:
        """Creates a destination of a whole account: it gets the events of all its instances."""
        answer = await self._transport.ask(
            "POST",
            ["v1", "destinations"],
            [],
            given_body({
                "channel": channel,
                "dialect": dialect,
                "disable_after_s": disable_after_s,
                "events": events,
                "evolution": evolution,
                "exclude_ephemeral": exclude_ephemeral,
                "fallback": fallback,
                "include_raw": include_raw,
                "inline_media": inline_media,
                "label": label,
                "max_in_flight": max_in_flight,
                "media_key": media_key,
                "ordering": ordering,
                "rate_limit_per_s": rate_limit_per_s,
                "retry": retry,
                "ryze": ryze,
                "start": start,
                "wait_for_media_s": wait_for_media_s,
            }),
            key=idempotency_key,
            keyed=True,
        )
        return cast(models.Destination, answer)

    async def get(self, destination: str) -> models.Destination:
        """Shows a destination and how delivery goes."""
        answer = await self._transport.ask("GET", ["v1", "destinations", destination], [])
        return cast(models.Destination, answer)

    async def delete(self, destination: str) -> None:
        """Deletes a destination. What waits for it is called off; its log stays for a while."""
        await self._transport.ask("DELETE", ["v1", "destinations", destination], [])

    async def update(
        self,
        destination: str,
        *,
        channel: Optional[Mapping[str, Any]] = None,
        dialect: Optional[str] = None,
        disable_after_s: Optional[int] = None,
        events: Optional[Sequence[str]] = None,
        evolution: Optional[models.EvolutionChoices] = None,
        exclude_ephemeral: Optional[bool] = None,
        fallback: Optional[str] = None,
        include_raw: Optional[bool] = None,
        inline_media: Optional[bool] = None,
        label: Optional[str] = None,
        max_in_flight: Optional[int] = None,
        media_key: Optional[bool] = None,
        ordering: Optional[Union[Literal["none", "key", "strict"], str]] = None,
        rate_limit_per_s: Optional[float] = None,
        retry: Optional[models.Retry] = None,
        ryze: Optional[models.RyzeChoices] = None,
        wait_for_media_s: Optional[int] = None,
    ) -> models.Destination:
        """Changes a destination. What is sent from then on is sent by the new settings, what
        waits already included.
        """
        answer = await self._transport.ask(
            "PATCH",
            ["v1", "destinations", destination],
            [],
            given_body({
                "channel": channel,
                "dialect": dialect,
                "disable_after_s": disable_after_s,
                "events": events,
                "evolution": evolution,
                "exclude_ephemeral": exclude_ephemeral,
                "fallback": fallback,
                "include_raw": include_raw,
                "inline_media": inline_media,
                "label": label,
                "max_in_flight": max_in_flight,
                "media_key": media_key,
                "ordering": ordering,
                "rate_limit_per_s": rate_limit_per_s,
                "retry": retry,
                "ryze": ryze,
                "wait_for_media_s": wait_for_media_s,
            }),
        )
        return cast(models.Destination, answer)

    async def pause(self, destination: str, *, reason: Optional[str] = None) -> models.Destination:
        """Stops a destination. What is under way finishes; everything else waits."""
        answer = await self._transport.ask(
            "POST",
            ["v1", "destinations", destination, "pause"],
            [],
            given_body({"reason": reason}),
        )
        return cast(models.Destination, answer)

    async def replay(
        self,
        destination: str,
        *,
        dry_run: Optional[bool] = None,
        from_: Optional[str] = None,
        since: Optional[str] = None,
        types: Optional[Sequence[str]] = None,
        until: Optional[str] = None,
        idempotency_key: Optional[str] = None,
    ) -> Union[models.Run, models.ReplayCount]:
        """Sends a stretch of the past again, up to where live delivery stands, beside live
        delivery. With `dry_run`, only counts.
        """
        answer = await self._transport.ask(
            "POST",
            ["v1", "destinations", destination, "replay"],
            [],
            given_body({
                "dry_run": dry_run,
                "from": from_,
                "since": since,
                "types": types,
                "until": until,
            }),
            key=idempotency_key,
            keyed=True,
        )
        return cast(Union[models.Run, models.ReplayCount], answer)

    async def resume(
        self,
        destination: str,
        *,
        from_: Optional[Union[Literal["cursor", "now"], str]] = None,
    ) -> models.Destination:
        """Lets a paused or disabled destination go on."""
        answer = await self._transport.ask(
            "POST",
            ["v1", "destinations", destination, "resume"],
            [],
            given_body({"from": from_}),
        )
        return cast(models.Destination, answer)

    async def rotate_secret(
        self,
        destination: str,
        *,
        overlap_s: Optional[int] = None,
    ) -> models.Destination:
        """Makes a new signing secret and shows it. The old one signs beside it for a while, so
        that receivers can change over.
        """
        answer = await self._transport.ask(
            "POST",
            ["v1", "destinations", destination, "rotate-secret"],
            [],
            given_body({"overlap_s": overlap_s}),
        )
        return cast(models.Destination, answer)

    def runs(
        self,
        destination: str,
        *,
        after: Optional[str] = None,
        limit: Optional[int] = None,
    ) -> AsyncPages[models.Run]:
        """Lists the replays of a destination."""
        return AsyncPages(
            self._transport,
            ["v1", "destinations", destination, "runs"],
            given({"after": after}),
            limit,
            None,
        )

    async def run(self, destination: str, run: int) -> models.Run:
        """Shows a replay and how far it is."""
        answer = await self._transport.ask(
            "GET",
            ["v1", "destinations", destination, "runs", str(run)],
            [],
        )
        return cast(models.Run, answer)

    async def change_run(
        self,
        destination: str,
        run: int,
        change: Union[Literal["pause", "resume", "cancel"], str],
    ) -> models.Run:
        """Stops a replay for now, lets it go on, or calls it off."""
        answer = await self._transport.ask(
            "POST",
            ["v1", "destinations", destination, "runs", str(run), change],
            [],
        )
        return cast(models.Run, answer)

    async def statistics(self, destination: str) -> models.DestinationStatistics:
        """Shows how a destination did in the last hour and day."""
        answer = await self._transport.ask(
            "GET",
            ["v1", "destinations", destination, "statistics"],
            [],
        )
        return cast(models.DestinationStatistics, answer)

    async def test(self, destination: str, *, type: Optional[str] = None) -> models.TestResult:
        """Sends a sample event to a destination, now and once. It leaves no trace in journal and
        log.
        """
        answer = await self._transport.ask(
            "POST",
            ["v1", "destinations", destination, "test"],
            [],
            given_body({"type": type}),
        )
        return cast(models.TestResult, answer)

    def list_of(
        self,
        instance: str,
        *,
        after: Optional[str] = None,
        limit: Optional[int] = None,
    ) -> AsyncPages[models.Destination]:
        """Lists the destinations of an instance. Those of the whole account are not among them."""
        return AsyncPages(
            self._transport,
            ["v1", "instances", instance, "destinations"],
            given({"after": after}),
            limit,
            None,
        )

    async def create_for(
        self,
        instance: str,
        *,
        channel: models.ChannelConfig,
        dialect: Optional[str] = None,
        disable_after_s: Optional[int] = None,
        events: Optional[Sequence[str]] = None,
        evolution: Optional[models.EvolutionChoices] = None,
        exclude_ephemeral: Optional[bool] = None,
        fallback: Optional[str] = None,
        include_raw: Optional[bool] = None,
        inline_media: Optional[bool] = None,
        label: Optional[str] = None,
        max_in_flight: Optional[int] = None,
        media_key: Optional[bool] = None,
        ordering: Optional[Union[Literal["none", "key", "strict"], str]] = None,
        rate_limit_per_s: Optional[float] = None,
        retry: Optional[models.Retry] = None,
        ryze: Optional[models.RyzeChoices] = None,
        start: Optional[str] = None,
        wait_for_media_s: Optional[int] = None,
        idempotency_key: Optional[str] = None,
    ) -> models.Destination:
        """Creates a destination of an instance."""
        answer = await self._transport.ask(
            "POST",
            ["v1", "instances", instance, "destinations"],
            [],
            given_body({
                "channel": channel,
                "dialect": dialect,
                "disable_after_s": disable_after_s,
                "events": events,
                "evolution": evolution,
                "exclude_ephemeral": exclude_ephemeral,
                "fallback": fallback,
                "include_raw": include_raw,
                "inline_media": inline_media,
                "label": label,
                "max_in_flight": max_in_flight,
                "media_key": media_key,
                "ordering": ordering,
                "rate_limit_per_s": rate_limit_per_s,
                "retry": retry,
                "ryze": ryze,
                "start": start,
                "wait_for_media_s": wait_for_media_s,
            }),
            key=idempotency_key,
            keyed=True,
        )
        return cast(models.Destination, answer)


class AsyncDeliveries:
    """What the API offers under ``deliveries``."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        instance: Optional[str] = None,
        destination: Optional[str] = None,
        status: Optional[str] = None,
        event_type: Optional[str] = None,
        event_id: Optional[str] = None,
        http_status: Optional[int] = None,
        from_: Optional[str] = None,
        to: Optional[str] = None,
        after: Optional[str] = None,
        limit: Optional[int] = None,
    ) -> AsyncPages[models.Delivery]:
        """Searches the delivery log, newest first."""
        return AsyncPages(
            self._transport,
            ["v1", "deliveries"],
            given({
                "instance": instance,
                "destination": destination,
                "status": status,
                "event_type": event_type,
                "event_id": event_id,
                "http_status": http_status,
                "from": from_,
                "to": to,
                "after": after,
            }),
            limit,
            None,
        )

    async def retry_matching(
        self,
        *,
        after: Optional[str] = None,
        destination: Optional[str] = None,
        dry_run: Optional[bool] = None,
        event_id: Optional[str] = None,
        event_type: Optional[Sequence[str]] = None,
        from_: Optional[str] = None,
        http_status: Optional[int] = None,
        instance: Optional[str] = None,
        limit: Optional[int] = None,
        status: Optional[Sequence[str]] = None,
        to: Optional[str] = None,
    ) -> models.RetryAnswer:
        """Sends every delivery that matches again, now. Ask with `dry_run` first."""
        answer = await self._transport.ask(
            "POST",
            ["v1", "deliveries", "retry"],
            [],
            given_body({
                "after": after,
                "destination": destination,
                "dry_run": dry_run,
                "event_id": event_id,
                "event_type": event_type,
                "from": from_,
                "http_status": http_status,
                "instance": instance,
                "limit": limit,
                "status": status,
                "to": to,
            }),
        )
        return cast(models.RetryAnswer, answer)

    async def get(self, delivery: str) -> models.DeliveryDetail:
        """Shows a delivery with every attempt."""
        answer = await self._transport.ask("GET", ["v1", "deliveries", delivery], [])
        return cast(models.DeliveryDetail, answer)

    async def retry(self, delivery: str) -> models.Delivery:
        """Sends one delivery again, now, whatever became of it."""
        answer = await self._transport.ask("POST", ["v1", "deliveries", delivery, "retry"], [])
        return cast(models.Delivery, answer)


class AsyncRealtime:
    """What the API offers under ``realtime``."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    def subscribers(
        self,
        *,
        instance: Optional[str] = None,
        after: Optional[str] = None,
        limit: Optional[int] = None,
    ) -> AsyncPages[models.Subscriber]:
        """Lists named subscribers."""
        return AsyncPages(
            self._transport,
            ["v1", "subscribers"],
            given({"instance": instance, "after": after}),
            limit,
            None,
        )

    async def subscriber(self, subscriber: str) -> models.Subscriber:
        """Shows a named subscriber, with the events that are dead for it."""
        answer = await self._transport.ask("GET", ["v1", "subscribers", subscriber], [])
        return cast(models.Subscriber, answer)

    async def delete_subscriber(self, subscriber: str) -> None:
        """Forgets a named subscriber: its connections are closed, and who connects with its name
        next begins anew.
        """
        await self._transport.ask("DELETE", ["v1", "subscribers", subscriber], [])

    async def retry_subscriber(
        self,
        subscriber: str,
        *,
        event_id: Optional[str] = None,
    ) -> models.SubscriberRetry:
        """Sends a named subscriber again what is dead for it, as if for the first time: at once
        if it is connected, else when it comes.
        """
        answer = await self._transport.ask(
            "POST",
            ["v1", "subscribers", subscriber, "retry"],
            [],
            given_body({"event_id": event_id}),
        )
        return cast(models.SubscriberRetry, answer)

    async def create_ticket(self, *, instance: Optional[str] = None) -> models.Ticket:
        """Makes a ticket that opens one connection within a minute."""
        answer = await self._transport.ask(
            "POST",
            ["v1", "tickets"],
            [],
            given_body({"instance": instance}),
        )
        return cast(models.Ticket, answer)


class AsyncOperations:
    """What the API offers under ``operations``."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    def audit(
        self,
        *,
        after: Optional[str] = None,
        limit: Optional[int] = None,
    ) -> AsyncPages[models.Audit]:
        """Lists the changes of the configuration, newest first. With the admin token: of all
        accounts, or of that of the header `zapbus-account`.
        """
        return AsyncPages(self._transport, ["v1", "audit"], given({"after": after}), limit, None)

    def backups(
        self,
        *,
        after: Optional[str] = None,
        limit: Optional[int] = None,
    ) -> AsyncPages[models.Backup]:
        """Lists the backups in the gateway's folder, oldest first. Needs the admin token."""
        return AsyncPages(self._transport, ["v1", "backups"], given({"after": after}), limit, None)

    async def take_backup(self, *, name: Optional[str] = None) -> models.Backup:
        """Takes a backup of everything but the encryption key, while events go on. Ask for it by
        its name to hear how far it is. Not where the database is on a server, which has
        backups of its own. Needs the admin token.
        """
        answer = await self._transport.ask(
            "POST",
            ["v1", "backups"],
            [],
            given_body({"name": name}),
        )
        return cast(models.Backup, answer)

    async def backup(self, backup: str) -> models.Backup:
        """Shows a backup and how far it is. Needs the admin token."""
        answer = await self._transport.ask("GET", ["v1", "backups", backup], [])
        return cast(models.Backup, answer)

    async def cluster(self) -> models.Cluster:
        """Shows the nodes of the cluster, and which of them runs the lanes of which shard. Needs
        the admin token.
        """
        answer = await self._transport.ask("GET", ["v1", "cluster"], [])
        return cast(models.Cluster, answer)

    async def erase(
        self,
        *,
        type: Union[Literal["chat", "person", "instance"], str],
        address: Optional[str] = None,
        chat: Optional[str] = None,
        dry_run: Optional[bool] = None,
        instance: Optional[str] = None,
    ) -> models.Erased:
        """Erases every trace of a chat, a person or an instance from journal, log and files.
        What was delivered already is at its receiver. Ask with `dry_run` first.
        """
        answer = await self._transport.ask(
            "POST",
            ["v1", "erasures"],
            [],
            given_body({
                "address": address,
                "chat": chat,
                "dry_run": dry_run,
                "instance": instance,
                "type": type,
            }),
        )
        return cast(models.Erased, answer)

    async def health(self) -> models.Health:
        """Shows how the gateway is: store, listener, destinations that need attention, instances
        that are silent. Of very many destinations and instances only the first thousand are
        looked at. Needs the admin token.
        """
        answer = await self._transport.ask("GET", ["v1", "health"], [])
        return cast(models.Health, answer)

    async def redecode(
        self,
        *,
        after: Optional[str] = None,
        dry_run: Optional[bool] = None,
        instance: Optional[str] = None,
        reason: Optional[str] = None,
        source: Optional[str] = None,
        until: Optional[str] = None,
    ) -> models.Redecoded:
        """Decodes again what was kept as `event.unknown`, for the day a decoder has learned
        more. What is understood now is stored under new ids and with `history: true`; the
        unknown event stays. Doing it again stores nothing twice. Ask with `dry_run` first.
        """
        answer = await self._transport.ask(
            "POST",
            ["v1", "redecode"],
            [],
            given_body({
                "after": after,
                "dry_run": dry_run,
                "instance": instance,
                "reason": reason,
                "source": source,
                "until": until,
            }),
        )
        return cast(models.Redecoded, answer)

    async def rekey(self) -> models.RekeyAnswer:
        """Encrypts every stored secret with the first of the keys that the gateway was given, so
        that the others need not be given any more. Needs the admin token.
        """
        answer = await self._transport.ask("POST", ["v1", "rekey"], [])
        return cast(models.RekeyAnswer, answer)


class Accounts:
    """What the API offers under ``accounts``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        after: Optional[str] = None,
        limit: Optional[int] = None,
    ) -> Pages[models.Account]:
        """Lists the accounts the token reaches."""
        return Pages(self._transport, ["v1", "accounts"], given({"after": after}), limit, None)

    def create(self, *, name: str, idempotency_key: Optional[str] = None) -> models.Account:
        """Creates an account."""
        answer = self._transport.ask(
            "POST",
            ["v1", "accounts"],
            [],
            given_body({"name": name}),
            key=idempotency_key,
            keyed=True,
        )
        return cast(models.Account, answer)

    def get(self, account: str) -> models.Account:
        """Shows an account."""
        answer = self._transport.ask("GET", ["v1", "accounts", account], [])
        return cast(models.Account, answer)

    def delete(self, account: str) -> None:
        """Deletes an account that has no instances left."""
        self._transport.ask("DELETE", ["v1", "accounts", account], [])

    def change(
        self,
        account: str,
        *,
        name: Optional[str] = None,
        origins: Optional[Sequence[str]] = None,
    ) -> models.Account:
        """Renames an account, or says which web pages may open its live connections."""
        answer = self._transport.ask(
            "PATCH",
            ["v1", "accounts", account],
            [],
            given_body({"name": name, "origins": origins}),
        )
        return cast(models.Account, answer)


class Credentials:
    """What the API offers under ``credentials``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        account: str,
        *,
        after: Optional[str] = None,
        limit: Optional[int] = None,
    ) -> Pages[models.Credential]:
        """Lists the credentials of an account."""
        return Pages(
            self._transport,
            ["v1", "accounts", account, "credentials"],
            given({"after": after}),
            limit,
            None,
        )

    def create(
        self,
        account: str,
        *,
        name: str,
        client_token: Optional[str] = None,
        expires_at: Optional[str] = None,
        instance: Optional[str] = None,
        role: Optional[Union[Literal["account", "instance"], str]] = None,
        idempotency_key: Optional[str] = None,
    ) -> models.Credential:
        """Creates a credential and shows its secret, this once."""
        answer = self._transport.ask(
            "POST",
            ["v1", "accounts", account, "credentials"],
            [],
            given_body({
                "client_token": client_token,
                "expires_at": expires_at,
                "instance": instance,
                "name": name,
                "role": role,
            }),
            key=idempotency_key,
            keyed=True,
        )
        return cast(models.Credential, answer)

    def revoke(self, account: str, credential: str) -> None:
        """Revokes a credential: it is refused from now on."""
        self._transport.ask("DELETE", ["v1", "accounts", account, "credentials", credential], [])

    def expire(
        self,
        account: str,
        credential: str,
        *,
        at: Optional[str] = None,
    ) -> models.Credential:
        """Lets a credential end, now or at a time to come."""
        answer = self._transport.ask(
            "POST",
            ["v1", "accounts", account, "credentials", credential, "expire"],
            [],
            given_body({"at": at}),
        )
        return cast(models.Credential, answer)

    def rotate(
        self,
        account: str,
        credential: str,
        *,
        overlap_s: Optional[int] = None,
    ) -> models.Credential:
        """Makes a new secret and shows it. The old one works beside it for a while."""
        answer = self._transport.ask(
            "POST",
            ["v1", "accounts", account, "credentials", credential, "rotate"],
            [],
            given_body({"overlap_s": overlap_s}),
        )
        return cast(models.Credential, answer)


class Instances:
    """What the API offers under ``instances``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        after: Optional[str] = None,
        limit: Optional[int] = None,
    ) -> Pages[models.Instance]:
        """Lists the instances the token reaches. The account's own, `_account`, is not among
        them: ask for it by its name.
        """
        return Pages(self._transport, ["v1", "instances"], given({"after": after}), limit, None)

    def create(
        self,
        *,
        name: str,
        token: Optional[str] = None,
        idempotency_key: Optional[str] = None,
    ) -> models.Instance:
        """Creates an instance. An admin creates it in the default account, or in that of the
        header `zapbus-account`.
        """
        answer = self._transport.ask(
            "POST",
            ["v1", "instances"],
            [],
            given_body({"name": name, "token": token}),
            key=idempotency_key,
            keyed=True,
        )
        return cast(models.Instance, answer)

    def get(self, instance: str) -> models.Instance:
        """Shows an instance: connection, QR code, who it is."""
        answer = self._transport.ask("GET", ["v1", "instances", instance], [])
        return cast(models.Instance, answer)

    def delete(self, instance: str) -> None:
        """Deletes an instance. It takes no more events at once; its destinations still get what
        is waiting, up to the event `instance.lifecycle` with action `deleted`, for ten
        minutes at most.
        """
        self._transport.ask("DELETE", ["v1", "instances", instance], [])

    def update(
        self,
        instance: str,
        *,
        media: Optional[models.ChangeInstanceMedia] = None,
        name: Optional[str] = None,
        rotate_token: Optional[bool] = None,
        token: Optional[str] = None,
    ) -> models.Instance:
        """Renames an instance, gives it another token, or says what to do about files."""
        answer = self._transport.ask(
            "PATCH",
            ["v1", "instances", instance],
            [],
            given_body({
                "media": media,
                "name": name,
                "rotate_token": rotate_token,
                "token": token,
            }),
        )
        return cast(models.Instance, answer)

    def statistics(self, instance: str) -> models.InstanceStatistics:
        """Shows how an instance and its own destinations did in the last hour and day."""
        answer = self._transport.ask("GET", ["v1", "instances", instance, "statistics"], [])
        return cast(models.InstanceStatistics, answer)


class Sources:
    """What the API offers under ``sources``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, instance: str) -> models.Source:
        """Shows where an instance's events enter, and what to set in a bridged product for that."""
        answer = self._transport.ask("GET", ["v1", "instances", instance, "source"], [])
        return cast(models.Source, answer)

    def set(
        self,
        instance: str,
        *,
        type: str,
        access_token: Optional[str] = None,
        app_secret: Optional[str] = None,
        phone_number_id: Optional[str] = None,
        secret: Optional[str] = None,
        verify_token: Optional[str] = None,
    ) -> models.Source:
        """Sets where an instance's events enter. What is posted natively is taken beside any
        source. A change is the event `instance.lifecycle` with action `loaded`.
        """
        answer = self._transport.ask(
            "PUT",
            ["v1", "instances", instance, "source"],
            [],
            given_body({
                "access_token": access_token,
                "app_secret": app_secret,
                "phone_number_id": phone_number_id,
                "secret": secret,
                "type": type,
                "verify_token": verify_token,
            }),
        )
        return cast(models.Source, answer)

    def get_of_account(self) -> models.Source:
        """Shows the source that serves all numbers of an account's Meta app."""
        answer = self._transport.ask("GET", ["v1", "source"], [])
        return cast(models.Source, answer)

    def set_of_account(
        self,
        *,
        type: str,
        access_token: Optional[str] = None,
        app_secret: Optional[str] = None,
        phone_number_id: Optional[str] = None,
        secret: Optional[str] = None,
        verify_token: Optional[str] = None,
    ) -> models.Source:
        """Sets the source that serves all numbers of an account's Meta app: each change goes to
        the instance with its `phone_number_id`, all else to the account's instance
        `_account`. `native` takes it away.
        """
        answer = self._transport.ask(
            "PUT",
            ["v1", "source"],
            [],
            given_body({
                "access_token": access_token,
                "app_secret": app_secret,
                "phone_number_id": phone_number_id,
                "secret": secret,
                "type": type,
                "verify_token": verify_token,
            }),
        )
        return cast(models.Source, answer)


class Events:
    """What the API offers under ``events``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def types(self) -> models.EventTypes:
        """Lists every event type with its schema and a sample per dialect."""
        answer = self._transport.ask("GET", ["v1", "event-types"], [])
        return cast(models.EventTypes, answer)

    def list_all(
        self,
        *,
        after: Optional[str] = None,
        types: Optional[Union[str, Sequence[str]]] = None,
        include_raw: Optional[bool] = None,
        limit: Optional[int] = None,
    ) -> Pages[Event]:
        """Reads the events of all instances of the account, oldest first. With the admin token:
        of all accounts, or of that of the header `zapbus-account`.
        """
        return Pages(
            self._transport,
            ["v1", "events"],
            given({"after": after, "types": types, "include_raw": include_raw}),
            limit,
            Event.of,
        )

    def get(self, event: str) -> Event:
        """Shows one event, with the untouched upstream element."""
        answer = self._transport.ask("GET", ["v1", "events", event], [])
        return Event.of(answer)

    def list(
        self,
        instance: str,
        *,
        after: Optional[str] = None,
        types: Optional[Union[str, Sequence[str]]] = None,
        include_raw: Optional[bool] = None,
        limit: Optional[int] = None,
    ) -> Pages[Event]:
        """Reads the events of one instance, oldest first."""
        return Pages(
            self._transport,
            ["v1", "instances", instance, "events"],
            given({"after": after, "types": types, "include_raw": include_raw}),
            limit,
            Event.of,
        )


class Destinations:
    """What the API offers under ``destinations``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        global_: Optional[bool] = None,
        instance: Optional[str] = None,
        after: Optional[str] = None,
        limit: Optional[int] = None,
    ) -> Pages[models.Destination]:
        """Lists the destinations the token reaches."""
        return Pages(
            self._transport,
            ["v1", "destinations"],
            given({"global": global_, "instance": instance, "after": after}),
            limit,
            None,
        )

    def create(
        self,
        *,
        channel: models.ChannelConfig,
        dialect: Optional[str] = None,
        disable_after_s: Optional[int] = None,
        events: Optional[Sequence[str]] = None,
        evolution: Optional[models.EvolutionChoices] = None,
        exclude_ephemeral: Optional[bool] = None,
        fallback: Optional[str] = None,
        include_raw: Optional[bool] = None,
        inline_media: Optional[bool] = None,
        label: Optional[str] = None,
        max_in_flight: Optional[int] = None,
        media_key: Optional[bool] = None,
        ordering: Optional[Union[Literal["none", "key", "strict"], str]] = None,
        rate_limit_per_s: Optional[float] = None,
        retry: Optional[models.Retry] = None,
        ryze: Optional[models.RyzeChoices] = None,
        start: Optional[str] = None,
        wait_for_media_s: Optional[int] = None,
        idempotency_key: Optional[str] = None,
    ) -> models.Destination:
        """Creates a destination of a whole account: it gets the events of all its instances."""
        answer = self._transport.ask(
            "POST",
            ["v1", "destinations"],
            [],
            given_body({
                "channel": channel,
                "dialect": dialect,
                "disable_after_s": disable_after_s,
                "events": events,
                "evolution": evolution,
                "exclude_ephemeral": exclude_ephemeral,
                "fallback": fallback,
                "include_raw": include_raw,
                "inline_media": inline_media,
                "label": label,
                "max_in_flight": max_in_flight,
                "media_key": media_key,
                "ordering": ordering,
                "rate_limit_per_s": rate_limit_per_s,
                "retry": retry,
                "ryze": ryze,
                "start": start,
                "wait_for_media_s": wait_for_media_s,
            }),
            key=idempotency_key,
            keyed=True,
        )
        return cast(models.Destination, answer)

    def get(self, destination: str) -> models.Destination:
        """Shows a destination and how delivery goes."""
        answer = self._transport.ask("GET", ["v1", "destinations", destination], [])
        return cast(models.Destination, answer)

    def delete(self, destination: str) -> None:
        """Deletes a destination. What waits for it is called off; its log stays for a while."""
        self._transport.ask("DELETE", ["v1", "destinations", destination], [])

    def update(
        self,
        destination: str,
        *,
        channel: Optional[Mapping[str, Any]] = None,
        dialect: Optional[str] = None,
        disable_after_s: Optional[int] = None,
        events: Optional[Sequence[str]] = None,
        evolution: Optional[models.EvolutionChoices] = None,
        exclude_ephemeral: Optional[bool] = None,
        fallback: Optional[str] = None,
        include_raw: Optional[bool] = None,
        inline_media: Optional[bool] = None,
        label: Optional[str] = None,
        max_in_flight: Optional[int] = None,
        media_key: Optional[bool] = None,
        ordering: Optional[Union[Literal["none", "key", "strict"], str]] = None,
        rate_limit_per_s: Optional[float] = None,
        retry: Optional[models.Retry] = None,
        ryze: Optional[models.RyzeChoices] = None,
        wait_for_media_s: Optional[int] = None,
    ) -> models.Destination:
        """Changes a destination. What is sent from then on is sent by the new settings, what
        waits already included.
        """
        answer = self._transport.ask(
            "PATCH",
            ["v1", "destinations", destination],
            [],
            given_body({
                "channel": channel,
                "dialect": dialect,
                "disable_after_s": disable_after_s,
                "events": events,
                "evolution": evolution,
                "exclude_ephemeral": exclude_ephemeral,
                "fallback": fallback,
                "include_raw": include_raw,
                "inline_media": inline_media,
                "label": label,
                "max_in_flight": max_in_flight,
                "media_key": media_key,
                "ordering": ordering,
                "rate_limit_per_s": rate_limit_per_s,
                "retry": retry,
                "ryze": ryze,
                "wait_for_media_s": wait_for_media_s,
            }),
        )
        return cast(models.Destination, answer)

    def pause(self, destination: str, *, reason: Optional[str] = None) -> models.Destination:
        """Stops a destination. What is under way finishes; everything else waits."""
        answer = self._transport.ask(
            "POST",
            ["v1", "destinations", destination, "pause"],
            [],
            given_body({"reason": reason}),
        )
        return cast(models.Destination, answer)

    def replay(
        self,
        destination: str,
        *,
        dry_run: Optional[bool] = None,
        from_: Optional[str] = None,
        since: Optional[str] = None,
        types: Optional[Sequence[str]] = None,
        until: Optional[str] = None,
        idempotency_key: Optional[str] = None,
    ) -> Union[models.Run, models.ReplayCount]:
        """Sends a stretch of the past again, up to where live delivery stands, beside live
        delivery. With `dry_run`, only counts.
        """
        answer = self._transport.ask(
            "POST",
            ["v1", "destinations", destination, "replay"],
            [],
            given_body({
                "dry_run": dry_run,
                "from": from_,
                "since": since,
                "types": types,
                "until": until,
            }),
            key=idempotency_key,
            keyed=True,
        )
        return cast(Union[models.Run, models.ReplayCount], answer)

    def resume(
        self,
        destination: str,
        *,
        from_: Optional[Union[Literal["cursor", "now"], str]] = None,
    ) -> models.Destination:
        """Lets a paused or disabled destination go on."""
        answer = self._transport.ask(
            "POST",
            ["v1", "destinations", destination, "resume"],
            [],
            given_body({"from": from_}),
        )
        return cast(models.Destination, answer)

    def rotate_secret(
        self,
        destination: str,
        *,
        overlap_s: Optional[int] = None,
    ) -> models.Destination:
        """Makes a new signing secret and shows it. The old one signs beside it for a while, so
        that receivers can change over.
        """
        answer = self._transport.ask(
            "POST",
            ["v1", "destinations", destination, "rotate-secret"],
            [],
            given_body({"overlap_s": overlap_s}),
        )
        return cast(models.Destination, answer)

    def runs(
        self,
        destination: str,
        *,
        after: Optional[str] = None,
        limit: Optional[int] = None,
    ) -> Pages[models.Run]:
        """Lists the replays of a destination."""
        return Pages(
            self._transport,
            ["v1", "destinations", destination, "runs"],
            given({"after": after}),
            limit,
            None,
        )

    def run(self, destination: str, run: int) -> models.Run:
        """Shows a replay and how far it is."""
        answer = self._transport.ask(
            "GET",
            ["v1", "destinations", destination, "runs", str(run)],
            [],
        )
        return cast(models.Run, answer)

    def change_run(
        self,
        destination: str,
        run: int,
        change: Union[Literal["pause", "resume", "cancel"], str],
    ) -> models.Run:
        """Stops a replay for now, lets it go on, or calls it off."""
        answer = self._transport.ask(
            "POST",
            ["v1", "destinations", destination, "runs", str(run), change],
            [],
        )
        return cast(models.Run, answer)

    def statistics(self, destination: str) -> models.DestinationStatistics:
        """Shows how a destination did in the last hour and day."""
        answer = self._transport.ask("GET", ["v1", "destinations", destination, "statistics"], [])
        return cast(models.DestinationStatistics, answer)

    def test(self, destination: str, *, type: Optional[str] = None) -> models.TestResult:
        """Sends a sample event to a destination, now and once. It leaves no trace in journal and
        log.
        """
        answer = self._transport.ask(
            "POST",
            ["v1", "destinations", destination, "test"],
            [],
            given_body({"type": type}),
        )
        return cast(models.TestResult, answer)

    def list_of(
        self,
        instance: str,
        *,
        after: Optional[str] = None,
        limit: Optional[int] = None,
    ) -> Pages[models.Destination]:
        """Lists the destinations of an instance. Those of the whole account are not among them."""
        return Pages(
            self._transport,
            ["v1", "instances", instance, "destinations"],
            given({"after": after}),
            limit,
            None,
        )

    def create_for(
        self,
        instance: str,
        *,
        channel: models.ChannelConfig,
        dialect: Optional[str] = None,
        disable_after_s: Optional[int] = None,
        events: Optional[Sequence[str]] = None,
        evolution: Optional[models.EvolutionChoices] = None,
        exclude_ephemeral: Optional[bool] = None,
        fallback: Optional[str] = None,
        include_raw: Optional[bool] = None,
        inline_media: Optional[bool] = None,
        label: Optional[str] = None,
        max_in_flight: Optional[int] = None,
        media_key: Optional[bool] = None,
        ordering: Optional[Union[Literal["none", "key", "strict"], str]] = None,
        rate_limit_per_s: Optional[float] = None,
        retry: Optional[models.Retry] = None,
        ryze: Optional[models.RyzeChoices] = None,
        start: Optional[str] = None,
        wait_for_media_s: Optional[int] = None,
        idempotency_key: Optional[str] = None,
    ) -> models.Destination:
        """Creates a destination of an instance."""
        answer = self._transport.ask(
            "POST",
            ["v1", "instances", instance, "destinations"],
            [],
            given_body({
                "channel": channel,
                "dialect": dialect,
                "disable_after_s": disable_after_s,
                "events": events,
                "evolution": evolution,
                "exclude_ephemeral": exclude_ephemeral,
                "fallback": fallback,
                "include_raw": include_raw,
                "inline_media": inline_media,
                "label": label,
                "max_in_flight": max_in_flight,
                "media_key": media_key,
                "ordering": ordering,
                "rate_limit_per_s": rate_limit_per_s,
                "retry": retry,
                "ryze": ryze,
                "start": start,
                "wait_for_media_s": wait_for_media_s,
            }),
            key=idempotency_key,
            keyed=True,
        )
        return cast(models.Destination, answer)


class Deliveries:
    """What the API offers under ``deliveries``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        instance: Optional[str] = None,
        destination: Optional[str] = None,
        status: Optional[str] = None,
        event_type: Optional[str] = None,
        event_id: Optional[str] = None,
        http_status: Optional[int] = None,
        from_: Optional[str] = None,
        to: Optional[str] = None,
        after: Optional[str] = None,
        limit: Optional[int] = None,
    ) -> Pages[models.Delivery]:
        """Searches the delivery log, newest first."""
        return Pages(
            self._transport,
            ["v1", "deliveries"],
            given({
                "instance": instance,
                "destination": destination,
                "status": status,
                "event_type": event_type,
                "event_id": event_id,
                "http_status": http_status,
                "from": from_,
                "to": to,
                "after": after,
            }),
            limit,
            None,
        )

    def retry_matching(
        self,
        *,
        after: Optional[str] = None,
        destination: Optional[str] = None,
        dry_run: Optional[bool] = None,
        event_id: Optional[str] = None,
        event_type: Optional[Sequence[str]] = None,
        from_: Optional[str] = None,
        http_status: Optional[int] = None,
        instance: Optional[str] = None,
        limit: Optional[int] = None,
        status: Optional[Sequence[str]] = None,
        to: Optional[str] = None,
    ) -> models.RetryAnswer:
        """Sends every delivery that matches again, now. Ask with `dry_run` first."""
        answer = self._transport.ask(
            "POST",
            ["v1", "deliveries", "retry"],
            [],
            given_body({
                "after": after,
                "destination": destination,
                "dry_run": dry_run,
                "event_id": event_id,
                "event_type": event_type,
                "from": from_,
                "http_status": http_status,
                "instance": instance,
                "limit": limit,
                "status": status,
                "to": to,
            }),
        )
        return cast(models.RetryAnswer, answer)

    def get(self, delivery: str) -> models.DeliveryDetail:
        """Shows a delivery with every attempt."""
        answer = self._transport.ask("GET", ["v1", "deliveries", delivery], [])
        return cast(models.DeliveryDetail, answer)

    def retry(self, delivery: str) -> models.Delivery:
        """Sends one delivery again, now, whatever became of it."""
        answer = self._transport.ask("POST", ["v1", "deliveries", delivery, "retry"], [])
        return cast(models.Delivery, answer)


class Realtime:
    """What the API offers under ``realtime``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def subscribers(
        self,
        *,
        instance: Optional[str] = None,
        after: Optional[str] = None,
        limit: Optional[int] = None,
    ) -> Pages[models.Subscriber]:
        """Lists named subscribers."""
        return Pages(
            self._transport,
            ["v1", "subscribers"],
            given({"instance": instance, "after": after}),
            limit,
            None,
        )

    def subscriber(self, subscriber: str) -> models.Subscriber:
        """Shows a named subscriber, with the events that are dead for it."""
        answer = self._transport.ask("GET", ["v1", "subscribers", subscriber], [])
        return cast(models.Subscriber, answer)

    def delete_subscriber(self, subscriber: str) -> None:
        """Forgets a named subscriber: its connections are closed, and who connects with its name
        next begins anew.
        """
        self._transport.ask("DELETE", ["v1", "subscribers", subscriber], [])

    def retry_subscriber(
        self,
        subscriber: str,
        *,
        event_id: Optional[str] = None,
    ) -> models.SubscriberRetry:
        """Sends a named subscriber again what is dead for it, as if for the first time: at once
        if it is connected, else when it comes.
        """
        answer = self._transport.ask(
            "POST",
            ["v1", "subscribers", subscriber, "retry"],
            [],
            given_body({"event_id": event_id}),
        )
        return cast(models.SubscriberRetry, answer)

    def create_ticket(self, *, instance: Optional[str] = None) -> models.Ticket:
        """Makes a ticket that opens one connection within a minute."""
        answer = self._transport.ask(
            "POST",
            ["v1", "tickets"],
            [],
            given_body({"instance": instance}),
        )
        return cast(models.Ticket, answer)


class Operations:
    """What the API offers under ``operations``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def audit(
        self,
        *,
        after: Optional[str] = None,
        limit: Optional[int] = None,
    ) -> Pages[models.Audit]:
        """Lists the changes of the configuration, newest first. With the admin token: of all
        accounts, or of that of the header `zapbus-account`.
        """
        return Pages(self._transport, ["v1", "audit"], given({"after": after}), limit, None)

    def backups(
        self,
        *,
        after: Optional[str] = None,
        limit: Optional[int] = None,
    ) -> Pages[models.Backup]:
        """Lists the backups in the gateway's folder, oldest first. Needs the admin token."""
        return Pages(self._transport, ["v1", "backups"], given({"after": after}), limit, None)

    def take_backup(self, *, name: Optional[str] = None) -> models.Backup:
        """Takes a backup of everything but the encryption key, while events go on. Ask for it by
        its name to hear how far it is. Not where the database is on a server, which has
        backups of its own. Needs the admin token.
        """
        answer = self._transport.ask("POST", ["v1", "backups"], [], given_body({"name": name}))
        return cast(models.Backup, answer)

    def backup(self, backup: str) -> models.Backup:
        """Shows a backup and how far it is. Needs the admin token."""
        answer = self._transport.ask("GET", ["v1", "backups", backup], [])
        return cast(models.Backup, answer)

    def cluster(self) -> models.Cluster:
        """Shows the nodes of the cluster, and which of them runs the lanes of which shard. Needs
        the admin token.
        """
        answer = self._transport.ask("GET", ["v1", "cluster"], [])
        return cast(models.Cluster, answer)

    def erase(
        self,
        *,
        type: Union[Literal["chat", "person", "instance"], str],
        address: Optional[str] = None,
        chat: Optional[str] = None,
        dry_run: Optional[bool] = None,
        instance: Optional[str] = None,
    ) -> models.Erased:
        """Erases every trace of a chat, a person or an instance from journal, log and files.
        What was delivered already is at its receiver. Ask with `dry_run` first.
        """
        answer = self._transport.ask(
            "POST",
            ["v1", "erasures"],
            [],
            given_body({
                "address": address,
                "chat": chat,
                "dry_run": dry_run,
                "instance": instance,
                "type": type,
            }),
        )
        return cast(models.Erased, answer)

    def health(self) -> models.Health:
        """Shows how the gateway is: store, listener, destinations that need attention, instances
        that are silent. Of very many destinations and instances only the first thousand are
        looked at. Needs the admin token.
        """
        answer = self._transport.ask("GET", ["v1", "health"], [])
        return cast(models.Health, answer)

    def redecode(
        self,
        *,
        after: Optional[str] = None,
        dry_run: Optional[bool] = None,
        instance: Optional[str] = None,
        reason: Optional[str] = None,
        source: Optional[str] = None,
        until: Optional[str] = None,
    ) -> models.Redecoded:
        """Decodes again what was kept as `event.unknown`, for the day a decoder has learned
        more. What is understood now is stored under new ids and with `history: true`; the
        unknown event stays. Doing it again stores nothing twice. Ask with `dry_run` first.
        """
        answer = self._transport.ask(
            "POST",
            ["v1", "redecode"],
            [],
            given_body({
                "after": after,
                "dry_run": dry_run,
                "instance": instance,
                "reason": reason,
                "source": source,
                "until": until,
            }),
        )
        return cast(models.Redecoded, answer)

    def rekey(self) -> models.RekeyAnswer:
        """Encrypts every stored secret with the first of the keys that the gateway was given, so
        that the others need not be given any more. Needs the admin token.
        """
        answer = self._transport.ask("POST", ["v1", "rekey"], [])
        return cast(models.RekeyAnswer, answer)
