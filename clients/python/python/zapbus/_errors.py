"""What can go wrong, as exceptions."""

from __future__ import annotations

import json
from typing import Any


class ZapbusError(Exception):
    """Everything that this package raises of its own accord.

    ``status`` and ``code`` are there when the gateway has answered: the HTTP status and the stable
    code of the problem. ``faults`` are pairs of what is wrong and why.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        detail: str | None = None,
        faults: list[tuple[str, str]] | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        body: Any = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.detail = detail
        self.faults = faults or []
        self.request_id = request_id
        self.retry_after = retry_after
        self.body = body


class UsageError(ZapbusError, ValueError):
    """An argument cannot be used."""


class ConnectionFailedError(ZapbusError, ConnectionError):
    """Nothing answers, or the connection broke."""


class RequestTimeoutError(ZapbusError, TimeoutError):
    """No answer in time."""


class UnreadableError(ZapbusError):
    """An answer or a frame is not one that this version understands."""


class EventTooLargeError(ZapbusError):
    """An event is larger than ``max_frame_bytes``."""


class SubscriptionClosedError(ZapbusError):
    """The subscription is closed: nothing can be said about its events any more."""


class ApiError(ZapbusError):
    """The gateway has answered, and refuses."""


class AuthenticationError(ApiError):
    """The token is wrong, has expired or was revoked (401)."""


class ForbiddenError(ApiError):
    """The token does not reach that far (403)."""


class NotFoundError(ApiError):
    """There is no such thing, or it belongs to somebody else (404)."""


class ConflictError(ApiError):
    """It is there already, or something else is going on (409)."""


class InvalidRequestError(ApiError):
    """The request is wrong: ``faults`` says where (400, 413, 415, 422)."""


class EventExpiredError(ConflictError):
    """The event is past its retention (``event_expired``)."""


class RateLimitError(ApiError):
    """Too much at once; ``retry_after`` says when to ask again (429)."""


class ServerError(ApiError):
    """The gateway cannot do it now (500 and above)."""


class WebhookVerificationError(ZapbusError):
    """A webhook is not to be trusted; ``code`` says why.

    ``missing_header``, ``unreadable_header``, ``too_old``, ``too_new``, ``wrong_signature``.
    """


_BY_CODE: dict[str, type[ApiError]] = {
    "unauthenticated": AuthenticationError,
    "forbidden": ForbiddenError,
    "event_expired": EventExpiredError,
    "already_exists": ConflictError,
    "ambiguous_instance": ConflictError,
}
_BY_STATUS: dict[int, type[ApiError]] = {
    400: InvalidRequestError,
    401: AuthenticationError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    413: InvalidRequestError,
    415: InvalidRequestError,
    422: InvalidRequestError,
    429: RateLimitError,
}
_BY_KIND: dict[str, type[ZapbusError]] = {
    "unreachable": ConnectionFailedError,
    "closed": ConnectionFailedError,
    "gave_up": ConnectionFailedError,
    "timeout": RequestTimeoutError,
    "unreadable": UnreadableError,
    "usage": UsageError,
    "too_large": EventTooLargeError,
    "subscription_closed": SubscriptionClosedError,
}


def _class_of(kind: str, status: int | None, code: str | None) -> type[ZapbusError]:
    if status is None:
        return _BY_KIND.get(kind, ZapbusError)
    if code in _BY_CODE:
        return _BY_CODE[code]
    if code is not None and code.endswith("_not_found"):
        return NotFoundError
    return _BY_STATUS.get(status, ServerError if status >= 500 else ApiError)


def make(
    *,
    kind: str,
    message: str,
    status: int | None = None,
    code: str | None = None,
    detail: str | None = None,
    faults: list[tuple[str, str]] | None = None,
    request_id: str | None = None,
    retry_after: float | None = None,
    body: str | None = None,
) -> ZapbusError:
    """The exception for an error of the Rust half, which calls this."""
    return _class_of(kind, status, code)(
        message,
        status=status,
        code=code,
        detail=detail,
        faults=faults,
        request_id=request_id,
        retry_after=retry_after,
        body=None if body is None else json.loads(body),
    )
