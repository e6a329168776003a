"""VZaps's API and its realtime events, of Zapbus or of any other server that speaks it.

The names and the arguments are those of the package ``vzaps``: a program that imports from there runs
when it imports from here.
"""

from __future__ import annotations

from ._client import AsyncVZapsClient, VZapsClient
from ._errors import (
    VZapsAPIError,
    VZapsAuthenticationError,
    VZapsError,
    VZapsRateLimitError,
    VZapsRealtimeError,
    VZapsTimeoutError,
)
from ._models import (
    EventType,
    RealtimeEvent,
    SessionStatusData,
    SessionStatusResponse,
    VZapsModel,
)
from ._realtime import EventSubscription
from ._threaded import ThreadedEventSubscription

__all__ = [
    "AsyncVZapsClient",
    "EventSubscription",
    "EventType",
    "RealtimeEvent",
    "SessionStatusData",
    "SessionStatusResponse",
    "ThreadedEventSubscription",
    "VZapsAPIError",
    "VZapsAuthenticationError",
    "VZapsClient",
    "VZapsError",
    "VZapsModel",
    "VZapsRateLimitError",
    "VZapsRealtimeError",
    "VZapsTimeoutError",
]
