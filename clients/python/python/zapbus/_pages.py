"""Lists that come in pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Generic, TypeVar, cast

from ._transport import AsyncTransport, Transport

Row = TypeVar("Row")


class _Asked(Generic[Row]):
    def __init__(
        self,
        path: list[str],
        query: list[tuple[str, str]],
        limit: int | None,
        read: Callable[[Any], Row] | None,
    ) -> None:
        self._path = path
        self._query = query if limit is None else [*query, ("limit", str(limit))]
        self._read = read
        self._after: str | None = None
        self._is_over = False

    def _asked(self) -> list[tuple[str, str]]:
        if self._after is None:
            return self._query
        others = [(name, value) for name, value in self._query if name != "after"]
        return [*others, ("after", self._after)]

    def _rows(self, page: dict[str, Any]) -> list[Row]:
        self._after = page.get("next")
        self._is_over = self._after is None
        rows = page["data"]
        if self._read is not None:
            return [self._read(row) for row in rows]
        return cast("list[Row]", rows)


class AsyncPages(_Asked[Row]):
    """A list: ``async for`` what is on its pages, or :meth:`next_page`."""

    def __init__(
        self,
        transport: AsyncTransport,
        path: list[str],
        query: list[tuple[str, str]],
        limit: int | None,
        read: Callable[[Any], Row] | None,
    ) -> None:
        super().__init__(path, query, limit, read)
        self._transport = transport

    async def next_page(self) -> list[Row] | None:
        """What is on the next page; ``None`` after the last."""
        if self._is_over:
            return None
        return self._rows(await self._transport.ask("GET", self._path, self._asked()))

    async def __aiter__(self) -> AsyncIterator[Row]:
        while (page := await self.next_page()) is not None:
            for row in page:
                yield row

    async def all(self) -> list[Row]:
        """Everything."""
        return [row async for row in self]


class Pages(_Asked[Row]):
    """A list: iterate over what is on its pages, or :meth:`next_page`."""

    def __init__(
        self,
        transport: Transport,
        path: list[str],
        query: list[tuple[str, str]],
        limit: int | None,
        read: Callable[[Any], Row] | None,
    ) -> None:
        super().__init__(path, query, limit, read)
        self._transport = transport

    def next_page(self) -> list[Row] | None:
        """What is on the next page; ``None`` after the last."""
        if self._is_over:
            return None
        return self._rows(self._transport.ask("GET", self._path, self._asked()))

    def __iter__(self) -> Iterator[Row]:
        while (page := self.next_page()) is not None:
            yield from page

    def all(self) -> list[Row]:
        """Everything."""
        return list(self)
