"""Server-sent events: an event, and how a stream of lines is read as events."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple


class ServerEvent(NamedTuple):
    """One server-sent event; `type` is empty for the comments that keep a connection alive."""

    type: str
    data: str = ""
    id: str | None = None

    def json(self) -> Any:
        """Its data, decoded; None when that is not JSON."""
        try:
            return json.loads(self.data)
        except ValueError:
            return None


KEEPALIVE = ServerEvent(type="")


def read_events(lines: Iterable[bytes]) -> Iterator[ServerEvent]:
    """Server-sent events from the lines of a ``text/event-stream`` (HTML standard, 9.2). An event that
    the end of the stream cuts off is dropped: its id has not been passed on, so a resume brings it again."""
    kind, data, last_id = "", list[str](), None
    for raw in lines:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if not raw.endswith((b"\n", b"\r")):
            return
        if line.startswith(":"):
            yield KEEPALIVE
        elif line:
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                kind = value
            elif field == "data":
                data.append(value)
            elif field == "id" and "\0" not in value:
                last_id = value
        else:
            if data or kind:
                yield ServerEvent(type=kind or "message", data="\n".join(data), id=last_id)
            kind, data = "", []
