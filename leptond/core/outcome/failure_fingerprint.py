"""The fingerprint of a failure, equal for equal failures: its class, its exit, and its error line without
what differs from run to run."""

from __future__ import annotations

import json
import re
from typing import Any

MAX_CHARS = 200

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_RANK = re.compile(r"^\s*\[?(default|rank ?)?\d+\]?:\s*|^\s*\[rank\d+\]:\s*", re.IGNORECASE)
_EXCEPTION = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Warning)\b")
_ERROR = re.compile(
    r"\b(errors?|fatal|panic(ked)?|abort(ed)?|assert(ion)?|cannot|can't|failed|failure|no such|not found"
    r"|denied|killed|segmentation fault|out of memory|traceback)\b",
    re.IGNORECASE,
)
# torchrun's and bash's own epilogue names the failure of a child, not its cause
_EPILOGUE = re.compile(r"ChildFailedError|torch\.distributed\.elastic|^Traceback \(most recent")

_VARIES = (
    (re.compile(r"0x[0-9a-fA-F]+"), "*"),
    (re.compile(r"\b[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"), "*"),
    (re.compile(r"\b(?=[0-9a-f]*[0-9])(?=[0-9a-f]*[a-f])[0-9a-f]{8,}\b"), "*"),
    (re.compile(r"\d+"), "#"),
    (re.compile(r"#([.:,/-]?#)+"), "#"),
    (re.compile(r"\s+"), " "),
)


def failure_fingerprint(cause: str, end: str, *, error_file: str | None, log_tail: str) -> str | None:
    """The fingerprint of a failed attempt of class `cause` that ended as `end` says; None where neither the
    exception that the framework recorded (`error_file`) nor the end of the output says what was wrong.

    >>> failure_fingerprint("user", "exit code 1", error_file=None, log_tail="ValueError: bad row 12\\n")
    'user, exit code 1: ValueError: bad row #'
    """
    line = _recorded(error_file) or _last_error(log_tail)
    return f"{cause}, {end}: {normal(line)}" if line else None


def normal(line: str) -> str:
    """A line without what differs from run to run: numbers, addresses, ids, spacing.

    >>> normal("KeyError:  'row 17'  at 0x7f3a (job 4ac0ffee1b)")
    "KeyError: 'row #' at * (job *)"
    """
    for pattern, word in _VARIES:
        line = pattern.sub(word, line)
    return line.strip()[:MAX_CHARS]


def _recorded(error_file: str | None) -> str | None:
    """The exception that torchrun recorded: its message, or the last line of that."""
    if error_file is None:
        return None
    try:
        value: Any = json.loads(error_file)
    except ValueError:
        return None
    while isinstance(value, dict):
        value = value.get("message")
    lines = [line.strip() for line in value.splitlines()] if isinstance(value, str) else []
    lines = [line for line in lines if line]
    return next((line for line in reversed(lines) if _EXCEPTION.match(line)), lines[-1] if lines else None)


def _last_error(tail: str) -> str | None:
    """The last line that names an exception; else the last that speaks of an error."""
    spoken = None
    for raw in reversed(tail.splitlines()):
        line = _RANK.sub("", _ESCAPES.sub("", raw)).strip()
        if not line or _EPILOGUE.search(line):
            continue
        if _EXCEPTION.match(line):
            return line
        if spoken is None and _ERROR.search(line):
            spoken = line
    return spoken
