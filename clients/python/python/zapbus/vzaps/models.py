"""Where programs look for the models."""

from __future__ import annotations

from ._models import (
    EventType,
    RealtimeEvent,
    SessionStatusData,
    SessionStatusResponse,
    VZapsModel,
)

__all__ = [
    "EventType",
    "RealtimeEvent",
    "SessionStatusData",
    "SessionStatusResponse",
    "VZapsModel",
]
