"""An app's log, from the stream that `databricks apps logs` reads.

`<app>/logz/stream` is a WebSocket: its first message says what to search for, each answer is one entry in JSON.
"""

import json
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from lakemesh.errors import Unavailable

CONNECT_SECONDS = 10.0
QUIET_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class LogEntry:
    time: datetime
    source: str
    message: str


def follow(
    url: str, headers: Mapping[str, str], *, search: str = "", quiet_seconds: float | None
) -> Iterator[LogEntry]:
    """Entries, the oldest first; until none comes for `quiet_seconds`, or for ever. Raises `Unavailable`."""
    from websockets.exceptions import ConnectionClosed, WebSocketException
    from websockets.sync.client import connect

    address = f"ws{url.removeprefix('http').rstrip('/')}/logz/stream"
    try:
        with connect(address, additional_headers=dict(headers), open_timeout=CONNECT_SECONDS) as stream:
            stream.send(search)
            while True:
                yield entry_of(str(stream.recv(timeout=quiet_seconds)))
    except (TimeoutError, ConnectionClosed):
        return
    except (WebSocketException, OSError) as error:
        raise Unavailable(f"The log of the app cannot be read: {error}.") from None


def recent_log(url: str, headers: Mapping[str, str], *, lines: int) -> list[LogEntry]:
    """The newest entries; none when the log cannot be read."""
    try:
        return list(deque(follow(url, headers, quiet_seconds=QUIET_SECONDS), maxlen=lines))
    except Unavailable:
        return []


def entry_of(text: str) -> LogEntry:
    """A message that is not what is expected is shown as it came."""
    try:
        entry = json.loads(text)
        moment = float(entry.get("timestamp") or 0) / 1_000 or time.time()
        return LogEntry(
            datetime.fromtimestamp(moment, tz=UTC), str(entry.get("source", "APP")), str(entry["message"]).rstrip("\n")
        )
    except (ValueError, TypeError, AttributeError, KeyError):
        return LogEntry(datetime.now(UTC), "APP", text.rstrip("\n"))
