"""Where programs look for the exceptions."""

from __future__ import annotations

from ._errors import (
    VZapsAPIError,
    VZapsAuthenticationError,
    VZapsError,
    VZapsRateLimitError,
    VZapsRealtimeError,
    VZapsTimeoutError,
)

__all__ = [
    "VZapsAPIError",
    "VZapsAuthenticationError",
    "VZapsError",
    "VZapsRateLimitError",
    "VZapsRealtimeError",
    "VZapsTimeoutError",
]
