"""What the Rust half does, awaited in an event loop of asyncio."""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import Callable
from typing import Any

from . import _core

# While the interpreter is whole: what waits is told, and threads end.
atexit.register(_core.shutdown)

#: How often a loop that only waits for events wakes up: a handler of signals that schedules
#: something, as programs do to close on SIGINT, is not noticed by a loop that sleeps.
WAKE_EVERY = 0.25

#: Happenings that are taken at once.
BATCH = 512


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


async def awaited(start: Callable[[Callable[[Any, BaseException | None], object]], Any]) -> Any:
    """Begins something and waits for its end. Cancelled, it is stopped."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def done(result: Any, error: BaseException | None) -> None:
        # On a thread of the Rust half. A loop that is closed has nobody who waits.
        if not loop.is_closed():
            loop.call_soon_threadsafe(_settle, future, result, error)

    task = start(done)
    try:
        return await future
    finally:
        task.cancel()
