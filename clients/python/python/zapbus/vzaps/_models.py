"""What VZaps's package calls models: objects with attributes, that keep what they do not know."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Any, TypeVar

_Model = TypeVar("_Model", bound="VZapsModel")


class EventType(str, Enum):
    """The names of events that VZaps documents. Others may come."""

    MESSAGE = "Message"
    READ_RECEIPT = "ReadReceipt"
    PRESENCE = "Presence"
    CHAT_PRESENCE = "ChatPresence"
    HISTORY_SYNC = "HistorySync"
    CONNECTED = "Connected"
    DISCONNECTED = "Disconnected"
    GROUP_PARTICIPANTS_ADD = "GroupParticipantsAdd"
    GROUP_PARTICIPANTS_REMOVE = "GroupParticipantsRemove"
    ALL = "All"


class VZapsModel:
    """An object of the API. What this version does not know is an attribute all the same."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)

    def __getattr__(self, name: str) -> Any:
        # Only what is not there gets here. Special names are asked for by copy and pickle.
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(f"{type(self).__name__} has no {name!r}")

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.__dict__.items())
        return f"{type(self).__name__}({fields})"

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def model_validate(cls: type[_Model], value: Mapping[str, Any] | _Model) -> _Model:
        """The object with these fields."""
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise TypeError(f"{cls.__name__}: expected an object, not {type(value).__name__}")
        return cls(**value)

    def model_dump(self, **_options: Any) -> dict[str, Any]:
        """The fields, as they came."""
        return {
            name: value.model_dump() if isinstance(value, VZapsModel) else value
            for name, value in self.__dict__.items()
        }


class RealtimeEvent(VZapsModel):
    """An event. ``created_at`` is a time if the server writes one, else what it wrote."""

    id: str
    type: str
    instance_id: str | None
    created_at: datetime | str | None
    data: dict[str, Any]

    def __init__(
        self,
        id: str,
        type: str,
        instance_id: str | None = None,
        created_at: datetime | str | None = None,
        data: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        fields = self.__dict__
        fields["id"] = id
        fields["type"] = type
        fields["instance_id"] = instance_id
        fields["created_at"] = _time(created_at)
        fields["data"] = {} if data is None else data
        if more:
            fields.update(more)

    @classmethod
    def of_document(cls, document: str) -> RealtimeEvent:
        """The event that a frame holds."""
        return cls(**json.loads(document))


def _time(value: datetime | str | None) -> datetime | str | None:
    if not isinstance(value, str):
        return value
    try:
        # Before Python 3.11 the letter is not understood.
        return datetime.fromisoformat(value[:-1] + "+00:00" if value.endswith("Z") else value)
    except ValueError:
        return value


class SessionStatusData(VZapsModel):
    """How a session is."""

    connected: bool


class SessionStatusResponse(VZapsModel):
    """The answer to a question for it."""

    code: int
    success: bool
    data: SessionStatusData

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self.__dict__["data"] = SessionStatusData.model_validate(fields["data"])
