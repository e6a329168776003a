"""Zapbus, a durable event bus for WhatsApp, from Python: its API, live events, webhooks.

:class:`AsyncClient` is awaited, :class:`Client` is waited for; otherwise they are the same.
:mod:`zapbus.vzaps` has the API and the realtime events of VZaps.
"""

from __future__ import annotations

from . import models
from ._client import AsyncClient, Client, Published
from ._consume import Consumed
from ._errors import (
    ApiError,
    AuthenticationError,
    ConflictError,
    ConnectionFailedError,
    EventExpiredError,
    EventTooLargeError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    SubscriptionClosedError,
    UnreadableError,
    UsageError,
    WebhookVerificationError,
    ZapbusError,
)
from ._events import DeadEvent, Event, Gap, Item, State
from ._pages import AsyncPages, Pages
from ._subscription import AsyncSubscription, Subscription
from ._version import __version__
from ._webhook import Signed, WebhookVerifier

__all__ = [
    "ApiError",
    "AsyncClient",
    "AsyncPages",
    "AsyncSubscription",
    "AuthenticationError",
    "Client",
    "ConflictError",
    "ConnectionFailedError",
    "Consumed",
    "DeadEvent",
    "Event",
    "EventExpiredError",
    "EventTooLargeError",
    "ForbiddenError",
    "Gap",
    "InvalidRequestError",
    "Item",
    "NotFoundError",
    "Pages",
    "Published",
    "RateLimitError",
    "RequestTimeoutError",
    "ServerError",
    "Signed",
    "State",
    "Subscription",
    "SubscriptionClosedError",
    "UnreadableError",
    "UsageError",
    "WebhookVerificationError",
    "WebhookVerifier",
    "ZapbusError",
    "__version__",
    "models",
]
