"""What subscriptions of the native API bring."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Union, cast

from . import _core


def seconds(value: float | timedelta) -> float:
    """A duration in seconds, however it is given."""
    return value.total_seconds() if isinstance(value, timedelta) else float(value)


def time_of(text: str) -> datetime:
    """A time as the API writes it."""
    # Before Python 3.11 the letter is not understood.
    return datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)


class Event:
    """An event. Its document is read when something of it is asked for; what this version does not
    know is in :attr:`document` all the same.

    An event of a subscription is settled with :meth:`ack`, :meth:`nack` or :meth:`reject`. Without
    any of these it comes again, when ``ack_wait`` is over or with the next connection.
    """

    __slots__ = ("_delivery", "_document", "_text")

    def __init__(self, text: str, delivery: _core.Delivery | None = None) -> None:
        self._text = text
        self._delivery = delivery
        self._document: dict[str, Any] | None = None

    @classmethod
    def of(cls, document: dict[str, Any]) -> Event:
        """The event that a list has."""
        event = cls("")
        event._document = document
        return event

    @property
    def document(self) -> dict[str, Any]:
        """The whole document, as it came."""
        document = self._document
        if document is None:
            document = self._document = cast("dict[str, Any]", json.loads(self._text))
        return document

    @property
    def text(self) -> str:
        """The JSON text, as it came."""
        return self._text or json.dumps(self._document)

    @property
    def id(self) -> str:
        """Its id, to deduplicate by; empty in dialects whose events have none."""
        if self._delivery is not None:
            return self._delivery.id or ""
        return str(self.document.get("id", ""))

    @property
    def type(self) -> str:
        """Its type, in the words of the subscription's dialect. It may be a new one."""
        if self._delivery is not None:
            return self._delivery.kind
        return str(self.document.get("type", ""))

    @property
    def data(self) -> Any:
        """What happened; its shape depends on the type."""
        return self.document.get("data")

    @property
    def instance(self) -> str:
        """The name of the instance it is of."""
        return self._of_instance("name")

    @property
    def instance_id(self) -> str:
        """The id of the instance it is of."""
        return self._of_instance("id")

    def _of_instance(self, what: str) -> str:
        instance = self.document.get("instance")
        if not isinstance(instance, dict):
            # Other dialects write a text, or nothing.
            return ""
        return str(cast("dict[str, Any]", instance).get(what, ""))

    @property
    def seq(self) -> int:
        """Its position: increasing per instance, with holes."""
        return int(self.document["seq"])

    @property
    def ordering_key(self) -> str | None:
        """What its order is kept by: usually its chat."""
        if self._delivery is not None:
            return self._delivery.ordering_key
        return self.document.get("ordering_key")

    @property
    def occurred_at(self) -> datetime:
        """When it happened."""
        return time_of(self.document["occurred_at"])

    @property
    def received_at(self) -> datetime:
        """When the gateway stored it."""
        return time_of(self.document["received_at"])

    @property
    def history(self) -> bool:
        """It happened before the source was connected."""
        return bool(self.document.get("history", False))

    @property
    def raw(self) -> Any:
        """The upstream's own element, if it was asked for."""
        return self.document.get("raw")

    @property
    def is_again(self) -> bool:
        """Whether this subscription was given it before."""
        return self._delivery is not None and self._delivery.is_again

    @property
    def is_settled(self) -> bool:
        """Whether something was said about it already, or nothing can be."""
        return self._delivery is None or self._delivery.is_settled

    def ack(self) -> None:
        """It is done. The gateway is told in the background, together with others. Said twice, or
        after something else, it does nothing."""
        if self._delivery is not None:
            self._delivery.ack()

    def nack(self, after: float | timedelta | None = None) -> None:
        """It could not be done: it comes again after ``after`` (seconds), or when ``ack_wait`` is
        over. Each time counts; after the gateway's last one the event is dead."""
        if self._delivery is not None:
            self._delivery.nack(None if after is None else seconds(after))

    def reject(self) -> None:
        """It is not to come again, and was not done: the gateway lists it as dead."""
        if self._delivery is not None:
            self._delivery.reject()

    def in_progress(self) -> None:
        """It is being worked on: the time for its acknowledgement begins anew."""
        if self._delivery is not None:
            self._delivery.in_progress()

    def __repr__(self) -> str:
        # Not the document: people's messages do not belong in logs.
        return f"Event(id={self.id!r}, type={self.type!r})"


@dataclass(frozen=True)
class Gap:
    """Events are missing, and will not come: they are past their retention. Where nothing is known
    (all ``None``), the connection had broken in a dialect whose events cannot be acknowledged."""

    after: str | None
    first: int | None
    cursor: str | None


@dataclass(frozen=True)
class DeadEvent:
    """An event that was sent as often as may be and never acknowledged: it does not come again."""

    id: str | None
    deliveries: int


@dataclass(frozen=True)
class State:
    """How a subscription is: ``connecting``, ``open``, ``waiting`` or ``closed``; attempts in a row
    that failed, and the seconds until the next."""

    name: str
    attempts: int = 0
    pause: float = 0.0


#: What a subscription brings.
Item = Union[Event, Gap, DeadEvent]
