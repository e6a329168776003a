"""For those who receive webhooks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Union, cast

from . import _core
from ._errors import UsageError, WebhookVerificationError
from ._events import Event, seconds

#: Headers as any framework has them.
HeadersLike = Union[Mapping[str, str], Iterable[tuple[str, str]]]


@dataclass(frozen=True)
class Signed:
    """What a signature says: the event's id, to deduplicate by, and when the attempt was made, in
    seconds since 1970."""

    id: str
    timestamp: int


class WebhookVerifier:
    """Verifies webhooks (Standard Webhooks 1.0.0), and signs them for tests.

    ``secrets``: one, or two while a secret is changed; the first one signs. ``tolerance``: how far
    the signed time may be from ours.
    """

    def __init__(
        self,
        secrets: str | Sequence[str],
        *,
        tolerance: float | timedelta = timedelta(minutes=5),
    ) -> None:
        given = [secrets] if isinstance(secrets, str) else list(secrets)
        try:
            self._core = _core.Verifier(given, seconds(tolerance))
        except ValueError as error:
            raise UsageError(str(error)) from None

    def verify(self, body: bytes | str, headers: HeadersLike, *, now: int | None = None) -> Signed:
        """Whether a request is from whoever has the secret. ``body`` is what came, byte for byte.
        Raises :class:`WebhookVerificationError`: answer it with 401."""
        try:
            signed = self._core.verify(_bytes(body), _pairs(headers), now)
        except ValueError as error:
            code, message = error.args
            raise WebhookVerificationError(message, code=code) from None
        return Signed(*signed)

    def unwrap(self, body: bytes | str, headers: HeadersLike, *, now: int | None = None) -> Event:
        """Verifies a request, and reads its body."""
        self.verify(body, headers, now=now)
        return Event(_bytes(body).decode("utf-8"))

    def sign(self, id: str, timestamp: int, body: bytes | str) -> dict[str, str]:
        """The headers of a request with this body."""
        return dict(self._core.sign(id, timestamp, _bytes(body)))


def _pairs(headers: HeadersLike) -> list[tuple[str, str]]:
    if isinstance(headers, Mapping):
        return list(cast("Mapping[str, str]", headers).items())
    return [(str(name), str(value)) for name, value in headers]


def _bytes(body: bytes | str) -> bytes:
    return body.encode("utf-8") if isinstance(body, str) else bytes(body)
