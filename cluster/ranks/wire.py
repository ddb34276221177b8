"""Messages between a launcher, its fork server and a rank: one JSON object a line."""

import json
from typing import Any

Message = dict[str, Any]


def encode(message: Message) -> bytes:
    """One message as bytes. JSON escapes line ends inside strings, so the final one is the only one."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


class LineBuffer:
    """Collects bytes as they come and gives back the whole messages."""

    def __init__(self, start: bytes = b"") -> None:
        self._rest = start

    @property
    def rest(self) -> bytes:
        """The bytes after the last whole line."""
        return self._rest

    def first_line(self, data: bytes) -> bytes | None:
        """Adds `data` and takes the first whole line out, or returns None where none is whole yet."""
        line, end, rest = (self._rest + data).partition(b"\n")
        if not end:
            self._rest = line
            return None
        self._rest = rest
        return line

    def messages(self, data: bytes = b"") -> list[Message]:
        """Adds `data` and takes all whole messages out; a line cut short by a killed writer is dropped."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        found = []
        for line in lines:
            try:
                message = json.loads(line) if line else None
            except ValueError:
                continue
            if isinstance(message, dict):
                found.append(message)
        return found
