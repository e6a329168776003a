"""The exceptions of VZaps's package."""

from __future__ import annotations

from typing import Any

from .._errors import ZapbusError


class VZapsError(Exception):
    """Everything that ``zapbus.vzaps`` raises of its own accord."""

    def __init__(
        self,
        message: str,
        *,
        status_code: int | None = None,
        code: str | None = None,
        details: Any = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status_code = status_code
        self.code = code
        self.details = details
        self.request_id = request_id
        self.retry_after = retry_after

    def __str__(self) -> str:
        if self.status_code is None:
            return self.message
        return f"{self.message} (status_code={self.status_code})"


class VZapsAuthenticationError(VZapsError):
    """Credentials are wrong, or do not reach that far (401, 403)."""


class VZapsTimeoutError(VZapsError):
    """No answer in time."""


class VZapsRateLimitError(VZapsError):
    """Too much at once (429)."""


class VZapsAPIError(VZapsError):
    """The server refuses, or cannot be reached."""


class VZapsRealtimeError(VZapsError):
    """Something went wrong with a subscription: its connection, or a handler (see ``__cause__``)."""


def of(error: ZapbusError) -> VZapsError:
    """An exception of ours as one of VZaps's."""
    kind: type[VZapsError]
    if error.status in (401, 403):
        kind = VZapsAuthenticationError
    elif error.status == 429:
        kind = VZapsRateLimitError
    elif isinstance(error, TimeoutError):
        kind = VZapsTimeoutError
    elif error.status is None and isinstance(error, ValueError):
        kind = VZapsError
    else:
        kind = VZapsAPIError
    return kind(
        error.detail or error.message,
        status_code=error.status,
        code=error.code,
        details=error.body,
        request_id=error.request_id,
        retry_after=error.retry_after,
    )


def realtime(error: BaseException) -> VZapsRealtimeError:
    """An exception as one of a subscription."""
    if isinstance(error, VZapsRealtimeError):
        return error
    if isinstance(error, ZapbusError):
        made = VZapsRealtimeError(
            error.message, status_code=error.status, code=error.code, details=error.body
        )
    else:
        made = VZapsRealtimeError(str(error) or "VZaps realtime subscription failed")
    made.__cause__ = error
    return made
