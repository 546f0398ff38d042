"""The fingerprint of a failure, equal for equal failures: its class, its exit, and its error line without
what differs from run to run."""

from __future__ import annotations

import re

MAX_CHARS = 200

_VARIES = (
    (re.compile(r"0x[0-9a-fA-F]+"), "*"),
    (re.compile(r"\b[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"), "*"),
    (re.compile(r"\b(?=[0-9a-f]*[0-9])(?=[0-9a-f]*[a-f])[0-9a-f]{8,}\b"), "*"),
    (re.compile(r"\d+"), "#"),
    (re.compile(r"#([.:,/-]?#)+"), "#"),
    (re.compile(r"\s+"), " "),
)


def failure_fingerprint(cause: str, end: str, line: str | None) -> str | None:
    """The fingerprint of a failed attempt of class `cause` that ended as `end` says, with the error `line`;
    None without one.

    >>> failure_fingerprint("user", "exit code 1", "ValueError: bad row 12")
    'user, exit code 1: ValueError: bad row #'
    """
    return f"{cause}, {end}: {normal(line)}" if line else None


def normal(line: str) -> str:
    """A line without what differs from run to run: numbers, addresses, ids, spacing.

    >>> normal("KeyError:  'row 17'  at 0x7f3a (job 4ac0ffee1b)")
    "KeyError: 'row #' at * (job *)"
    """
    for pattern, word in _VARIES:
        line = pattern.sub(word, line)
    return line.strip()[:MAX_CHARS]
