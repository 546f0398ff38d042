"""The words that daemon and shim exchange at the gate, a socket that the shim has as descriptor 3.

A message is a line: a word, and for some words a blank and more. The shim says READY (or CANNOT), STARTED (or
FAILED), ENDED, RESTING; the daemon says GO, BOOKED, LAUNCH. End of file before GO: the command never starts.
Shims outlive the daemon that started them and speak only with that one, so a daemon never meets the words of
another release.

Shims load this module, so it imports nothing.
"""

from __future__ import annotations

GATE_FD = 3
"""The shim's end of the gate."""
LAUNCH_FD = 4
"""A file in memory with the launch description (JSON)."""

READY = "READY"
"""``READY TICKS``: the shim is at its gate; its start time in clock ticks since boot."""
CANNOT = "CANNOT"
"""``CANNOT ERRNO TEXT``: the shim cannot get ready."""
GO = "GO"
"""``GO JSON``: start the command, with the GPUs of this assignment."""
STARTED = "STARTED"
"""``STARTED PID MODE``: the command runs; it started ``warm`` or ``cold: WHY``."""
FAILED = "FAILED"
"""``FAILED TEXT``: the command could not be executed."""
ENDED = "ENDED"
"""``ENDED JSON``: no process of the attempt is left; its exit record."""
BOOKED = "BOOKED"
"""The end is durable in the database."""
RESTING = "RESTING"
"""The shim is idle and takes another attempt."""
LAUNCH = "LAUNCH"
"""``LAUNCH JSON``: take the attempt of this launch description."""


def message(word: str, text: object = "") -> bytes:
    r"""Return the line that is sent.

    >>> message(READY, 42), message(BOOKED)
    (b'READY 42\n', b'BOOKED\n')
    """
    rest = str(text)
    return (f"{word} {rest}\n" if rest else f"{word}\n").encode()


def split(line: bytes) -> tuple[str, str]:
    r"""Return word and text of a line that was received; two empty strings for one that is not complete.

    >>> split(b"CANNOT 28 no space\n"), split(b"GO {")
    (('CANNOT', '28 no space'), ('', ''))
    """
    if not line.endswith(b"\n"):
        return "", ""
    word, _, text = line[:-1].decode("utf-8", "replace").partition(" ")
    return word, text
