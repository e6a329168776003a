"""The resources of VZaps's API that have to do with events, awaited and waited for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._models import SessionStatusResponse
from ._transport import AsyncTransport, Transport, merged, of_instance, segment


def _page(request: Mapping[str, Any] | None, fields: Mapping[str, Any]) -> dict[str, Any]:
    """What ``instances.list`` asks for."""
    asked = merged(request, fields)
    query = dict(asked.get("filter") or {})
    search = asked.get("search")
    if isinstance(search, str) and search.strip():
        query["query"] = search.strip()
    return {
        "page": asked.get("page", 1),
        "size": asked.get("size") or asked.get("page_size") or asked.get("pageSize") or 20,
        "filter": query,
        "sort": asked.get("sort"),
        "sort_desc": asked.get("sort_desc", asked.get("sortDesc")),
    }


def _log(request: dict[str, Any]) -> tuple[str, str | None, str]:
    """Whose log, and which."""
    instance, token, rest = of_instance(request)
    log = rest.get("log_id") or rest.get("logId")
    if not log:
        raise ValueError("log_id is required")
    return instance, token, str(log)


class AsyncAuthResource:
    """The access token."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def get_access_token(self) -> str:
        """The one that requests carry now."""
        return await self._transport.access_token()


class AsyncInstancesResource:
    """Instances."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(self, request: Mapping[str, Any] | None = None, **fields: Any) -> Any:
        """Makes one: ``name``, and if wanted ``webhook`` and ``events_subscribe``."""
        return await self._transport.request(
            "PUT", "/instances/create", body=merged(request, fields)
        )

    async def provision(self, request: Mapping[str, Any] | None = None, **fields: Any) -> Any:
        """The same."""
        return await self._transport.request(
            "PUT", "/instances/provision", body=merged(request, fields)
        )

    async def list(self, request: Mapping[str, Any] | None = None, **fields: Any) -> Any:
        """A page of them: ``page``, ``size``, ``search``, ``filter``, ``sort``, ``sort_desc``."""
        return await self._transport.request(
            "POST", "/instances/list", body=_page(request, fields)
        )

    async def search(self, request: Mapping[str, Any] | None = None, **fields: Any) -> Any:
        """A page of them, asked for in the server's own words."""
        return await self._transport.request(
            "POST", "/instances/search", body=merged(request, fields)
        )

    async def get(self, instance_id: str) -> Any:
        """One of them."""
        return await self._transport.request("POST", "/instances/get", body={"id": instance_id})

    async def update(
        self,
        instance_id: str,
        request: Mapping[str, Any] | None = None,
        *,
        instance_token: str | None = None,
        **fields: Any,
    ) -> Any:
        """Changes one."""
        return await self._transport.request(
            "PATCH",
            f"/instances/{segment(instance_id)}",
            body=merged(request, fields),
            instance_token=instance_token,
        )

    async def restart(self, instance_id: str, *, instance_token: str | None = None) -> Any:
        """Asks one to connect again."""
        return await self._transport.request(
            "POST", f"/instances/{segment(instance_id)}/restart", instance_token=instance_token
        )

    async def delete(self, instance_id: str, *, instance_token: str | None = None) -> Any:
        """Deletes one."""
        return await self._transport.request(
            "DELETE", f"/instances/{segment(instance_id)}", instance_token=instance_token
        )

    async def subscribe(
        self,
        instance_id: str,
        request: Mapping[str, Any] | None = None,
        *,
        instance_token: str | None = None,
        **fields: Any,
    ) -> Any:
        """Books a plan, where the server sells any."""
        return await self._transport.request(
            "POST",
            f"/instances/{segment(instance_id)}/subscribe",
            body=merged(request, fields),
            instance_token=instance_token,
        )

    async def resume_subscription(
        self, instance_id: str, *, instance_token: str | None = None
    ) -> Any:
        """Resumes a plan."""
        return await self._transport.request(
            "POST",
            f"/instances/{segment(instance_id)}/resume-subscription",
            instance_token=instance_token,
        )

    async def cancel(self, instance_id: str, *, instance_token: str | None = None) -> Any:
        """Cancels a plan."""
        return await self._transport.request(
            "PUT", f"/instances/{segment(instance_id)}/cancel", instance_token=instance_token
        )


class AsyncSessionsResource:
    """The WhatsApp sessions of instances."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def _get(self, instance_id: str, what: str, instance_token: str | None) -> Any:
        path = f"/instances/{segment(instance_id)}/session/{what}"
        return await self._transport.request("GET", path, instance_token=instance_token)

    async def status(
        self, instance_id: str, *, instance_token: str | None = None
    ) -> SessionStatusResponse:
        """How it is."""
        return SessionStatusResponse.model_validate(
            await self._get(instance_id, "status", instance_token)
        )

    async def qr(self, instance_id: str, *, instance_token: str | None = None) -> Any:
        """The QR code to connect it with, as the server last knew it."""
        return await self._get(instance_id, "qr", instance_token)

    async def pair_code(
        self, instance_id: str, phone: str, *, instance_token: str | None = None
    ) -> Any:
        """A code to connect it with, for a phone number."""
        return await self._get(instance_id, f"paircode/{segment(phone)}", instance_token)

    async def disconnect(self, instance_id: str, *, instance_token: str | None = None) -> Any:
        """Disconnects it."""
        return await self._transport.request(
            "POST",
            f"/instances/{segment(instance_id)}/session/disconnect",
            instance_token=instance_token,
        )


class AsyncWebhooksResource:
    """The webhook of an instance, and its delivery log."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def get(self, instance_id: str, *, instance_token: str | None = None) -> Any:
        """How it is set."""
        return await self._transport.request(
            "GET", f"/instances/{segment(instance_id)}/webhook", instance_token=instance_token
        )

    async def set(self, request: Mapping[str, Any] | None = None, **fields: Any) -> Any:
        """Sets it: ``instance_id``, ``instance_token``, ``webhook_url``, ``events``."""
        instance, token, body = of_instance(merged(request, fields))
        return await self._transport.request(
            "POST", f"/instances/{segment(instance)}/webhook", body=body, instance_token=token
        )

    async def search_logs(self, request: Mapping[str, Any] | None = None, **fields: Any) -> Any:
        """A page of the log: ``instance_id``, ``instance_token``, and filters: ``status``, …"""
        instance, token, body = of_instance(merged(request, fields))
        return await self._transport.request(
            "POST",
            f"/instances/{segment(instance)}/webhook/logs/search",
            body=body or None,
            instance_token=token,
        )

    async def get_log(self, request: Mapping[str, Any] | None = None, **fields: Any) -> Any:
        """One delivery: ``instance_id``, ``instance_token``, ``log_id``."""
        instance, token, log = _log(merged(request, fields))
        return await self._transport.request(
            "GET",
            f"/instances/{segment(instance)}/webhook/logs/{segment(log)}",
            instance_token=token,
        )

    async def retry_log(self, request: Mapping[str, Any] | None = None, **fields: Any) -> Any:
        """Sends it again: ``instance_id``, ``instance_token``, ``log_id``."""
        instance, token, log = _log(merged(request, fields))
        return await self._transport.request(
            "POST",
            f"/instances/{segment(instance)}/webhook/logs/{segment(log)}/retry",
            instance_token=token,
        )


class AuthResource:
    """The access token."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get_access_token(self) -> str:
        """The one that requests carry now."""
        return self._transport.access_token()


class InstancesResource:
    """Instances."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, request: Mapping[str, Any] | None = None, **fields: Any) -> Any:
        """Makes one: ``name``, and if wanted ``webhook`` and ``events_subscribe``."""
        return self._transport.request(
            "PUT", "/instances/create", body=merged(request, fields)
        )

    def provision(self, request: Mapping[str, Any] | None = None, **fields: Any) -> Any:
        """The same."""
        return self._transport.request(
            "PUT", "/instances/provision", body=merged(request, fields)
        )

    def list(self, request: Mapping[str, Any] | None = None, **fields: Any) -> Any:
        """A page of them: ``page``, ``size``, ``search``, ``filter``, ``sort``, ``sort_desc``."""
        return self._transport.request(
            "POST", "/instances/list", body=_page(request, fields)
        )

    def search(self, request: Mapping[str, Any] | None = None, **fields: Any) -> Any:
        """A page of them, asked for in the server's own words."""
        return self._transport.request(
            "POST", "/instances/search", body=merged(request, fields)
        )

    def get(self, instance_id: str) -> Any:
        """One of them."""
        return self._transport.request("POST", "/instances/get", body={"id": instance_id})

    def update(
        self,
        instance_id: str,
        request: Mapping[str, Any] | None = None,
        *,
        instance_token: str | None = None,
        **fields: Any,
    ) -> Any:
        """Changes one."""
        return self._transport.request(
            "PATCH",
            f"/instances/{segment(instance_id)}",
            body=merged(request, fields),
            instance_token=instance_token,
        )

    def restart(self, instance_id: str, *, instance_token: str | None = None) -> Any:
        """Asks one to connect again."""
        return self._transport.request(
            "POST", f"/instances/{segment(instance_id)}/restart", instance_token=instance_token
        )

    def delete(self, instance_id: str, *, instance_token: str | None = None) -> Any:
        """Deletes one."""
        return self._transport.request(
            "DELETE", f"/instances/{segment(instance_id)}", instance_token=instance_token
        )

    def subscribe(
        self,
        instance_id: str,
        request: Mapping[str, Any] | None = None,
        *,
        instance_token: str | None = None,
        **fields: Any,
    ) -> Any:
        """Books a plan, where the server sells any."""
        return self._transport.request(
            "POST",
            f"/instances/{segment(instance_id)}/subscribe",
            body=merged(request, fields),
            instance_token=instance_token,
        )

    def resume_subscription(
        self, instance_id: str, *, instance_token: str | None = None
    ) -> Any:
        """Resumes a plan."""
        return self._transport.request(
            "POST",
            f"/instances/{segment(instance_id)}/resume-subscription",
            instance_token=instance_token,
        )

    def cancel(self, instance_id: str, *, instance_token: str | None = None) -> Any:
        """Cancels a plan."""
        return self._transport.request(
            "PUT", f"/instances/{segment(instance_id)}/cancel", instance_token=instance_token
        )


class SessionsResource:
    """The WhatsApp sessions of instances."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _get(self, instance_id: str, what: str, instance_token: str | None) -> Any:
        path = f"/instances/{segment(instance_id)}/session/{what}"
        return self._transport.request("GET", path, instance_token=instance_token)

    def status(
        self, instance_id: str, *, instance_token: str | None = None
    ) -> SessionStatusResponse:
        """How it is."""
        return SessionStatusResponse.model_validate(
            self._get(instance_id, "status", instance_token)
        )

    def qr(self, instance_id: str, *, instance_token: str | None = None) -> Any:
        """The QR code to connect it with, as the server last knew it."""
        return self._get(instance_id, "qr", instance_token)

    def pair_code(
        self, instance_id: str, phone: str, *, instance_token: str | None = None
    ) -> Any:
        """A code to connect it with, for a phone number."""
        return self._get(instance_id, f"paircode/{segment(phone)}", instance_token)

    def disconnect(self, instance_id: str, *, instance_token: str | None = None) -> Any:
        """Disconnects it."""
        return self._transport.request(
            "POST",
            f"/instances/{segment(instance_id)}/session/disconnect",
            instance_token=instance_token,
        )


class WebhooksResource:
    """The webhook of an instance, and its delivery log."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, instance_id: str, *, instance_token: str | None = None) -> Any:
        """How it is set."""
        return self._transport.request(
            "GET", f"/instances/{segment(instance_id)}/webhook", instance_token=instance_token
        )

    def set(self, request: Mapping[str, Any] | None = None, **fields: Any) -> Any:
        """Sets it: ``instance_id``, ``instance_token``, ``webhook_url``, ``events``."""
        instance, token, body = of_instance(merged(request, fields))
        return self._transport.request(
            "POST", f"/instances/{segment(instance)}/webhook", body=body, instance_token=token
        )

    def search_logs(self, request: Mapping[str, Any] | None = None, **fields: Any) -> Any:
        """A page of the log: ``instance_id``, ``instance_token``, and filters: ``status``, …"""
        instance, token, body = of_instance(merged(request, fields))
        return self._transport.request(
            "POST",
            f"/instances/{segment(instance)}/webhook/logs/search",
            body=body or None,
            instance_token=token,
        )

    def get_log(self, request: Mapping[str, Any] | None = None, **fields: Any) -> Any:
        """One delivery: ``instance_id``, ``instance_token``, ``log_id``."""
        instance, token, log = _log(merged(request, fields))
        return self._transport.request(
            "GET",
            f"/instances/{segment(instance)}/webhook/logs/{segment(log)}",
            instance_token=token,
        )

    def retry_log(self, request: Mapping[str, Any] | None = None, **fields: Any) -> Any:
        """Sends it again: ``instance_id``, ``instance_token``, ``log_id``."""
        instance, token, log = _log(merged(request, fields))
        return self._transport.request(
            "POST",
            f"/instances/{segment(instance)}/webhook/logs/{segment(log)}/retry",
            instance_token=token,
        )
