"""The Rust half. What is here is for this package only."""

from collections.abc import Callable
from typing import Any, Literal, final

Done = Callable[[Any, BaseException | None], object]
Query = list[tuple[str, str]]

def shutdown() -> None: ...
@final
class Task:
    def cancel(self) -> None: ...

@final
class Delivery:
    @property
    def id(self) -> str | None: ...
    @property
    def kind(self) -> str: ...
    @property
    def ordering_key(self) -> str | None: ...
    @property
    def is_again(self) -> bool: ...
    @property
    def document(self) -> str: ...
    @property
    def is_settled(self) -> bool: ...
    def ack(self) -> None: ...
    def nack(self, after: float | None = None) -> None: ...
    def reject(self) -> None: ...
    def in_progress(self) -> None: ...
    def give_back(self) -> None: ...

@final
class NativeClient:
    def __new__(
        cls,
        *,
        url: str,
        token: str,
        account: str | None,
        timeout: float,
        max_retries: int,
        user_agent: str,
    ) -> NativeClient: ...
    def start_request(
        self,
        done: Done,
        method: str,
        path: list[str],
        query: Query,
        body: str | None,
        key: str | None,
    ) -> Task: ...
    def request(
        self,
        method: str,
        path: list[str],
        query: Query,
        body: str | None,
        key: str | None,
    ) -> str: ...
    def subscribe(
        self,
        *,
        instance: str | None,
        subscriber: str | None,
        after: str | None,
        types: list[str],
        dialect: str,
        include_raw: bool,
        exclude_ephemeral: bool,
        inline_media: bool,
        fallback: str | None,
        max_unacked: int,
        ack_wait: float,
        reconnect: bool,
        max_retries: int | None,
        retry_pauses: tuple[float, float],
        patient: bool,
        keep_alive: float,
        max_frame_bytes: int,
    ) -> Stream: ...

@final
class Glance:
    @property
    def state(
        self,
    ) -> tuple[Literal["connecting", "open", "waiting", "closed"], int, float]: ...
    @property
    def lag(self) -> float | None: ...
    @property
    def cursor(self) -> str | None: ...
    @property
    def unsettled(self) -> int: ...

@final
class Stream:
    def start_open(self, done: Done) -> Task: ...
    def open(self) -> Glance: ...
    def start_pull(self, done: Done, most: int, patience: float) -> Task: ...
    def pull(self, most: int, patience: float) -> list[tuple[str, Any]] | None: ...
    def ready(self, most: int) -> list[tuple[str, Any]]: ...
    def start_close(self, done: Done) -> Task: ...
    def close(self) -> None: ...

@final
class VZapsClient:
    def __new__(
        cls,
        *,
        client_token: str,
        client_secret: str,
        base_url: str,
        realtime_url: str,
        timeout: float,
        token_skew_seconds: float,
        max_retries: int,
        user_agent: str,
    ) -> VZapsClient: ...
    def start_request(
        self,
        done: Done,
        method: str,
        path: str,
        query: Query,
        body: str | None,
        headers: list[tuple[str, str]],
        instance_token: str | None,
        auth: bool,
    ) -> Task: ...
    def request(
        self,
        method: str,
        path: str,
        query: Query,
        body: str | None,
        headers: list[tuple[str, str]],
        instance_token: str | None,
        auth: bool,
    ) -> str: ...
    def start_access_token(self, done: Done) -> Task: ...
    def access_token(self) -> str: ...
    def feed(
        self,
        *,
        instance_id: str,
        instance_token: str,
        events: list[str],
        reconnect: bool,
        last_event_id: str | None,
        max_retries: int | None,
        retry_delay_seconds: float,
        keep_alive_seconds: float,
        max_frame_bytes: int,
    ) -> Feed: ...

@final
class Feed:
    def start_pull(self, done: Done, most: int, patience: float) -> Task: ...
    def pull(self, most: int, patience: float) -> list[tuple[str, Any]] | None: ...
    def ready(self, most: int) -> list[tuple[str, Any]]: ...
    def start_close(self, done: Done) -> Task: ...
    def close(self) -> None: ...

@final
class Verifier:
    def __new__(cls, secrets: list[str], tolerance: float) -> Verifier: ...
    def verify(
        self, body: bytes, headers: list[tuple[str, str]], now: int | None = None
    ) -> tuple[str, int]: ...
    def sign(self, id: str, timestamp: int, body: bytes) -> list[tuple[str, str]]: ...
