"""The words that daemon and shim exchange at the gate, a socket that the shim has as descriptor 3.

A message is a line: a word, and for some words a blank and more. The shim says READY (or CANNOT), STARTED (or
FAILED), ENDED, RESTING; the daemon says GO, BOOKED, LAUNCH. End of file before GO: the command never starts.

A shim at its gate may also start without GO, in a succession (:mod:`leptond.engines.successions`): the daemon
says SUCCEED to those that wait in it and HAND_ON to those that run, and BEFORE to all but the last that wait;
one that has started says TOOK. WITHDRAW takes it out of the succession again, and it answers WITHDRAWN unless
it has started.

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

SUCCEED = "SUCCEED"
"""``SUCCEED JSON``, with three descriptors: wait in a succession for your turn, and then for a slot. `slots`
has the assignment for each slot that may come; `name` and `until` (boot time, or null) are for your own
HAND_ON. The descriptors: where slots are read, where they are written, where the turn is read."""
BEFORE = "BEFORE"
"""``BEFORE``, with one descriptor: where to pass the turn on to, once you have taken a slot."""
HAND_ON = "HAND_ON"
"""``HAND_ON JSON``, with one descriptor: write your slot there when you have ended well before `until`, and
tell the `name` of the succession with your end."""
TOOK = "TOOK"
"""``TOOK JSON``: the shim has taken the slot of the attempt `after`, and starts its command or has tried
to."""
WITHDRAW = "WITHDRAW"
"""Leave the succession; nothing else is done with you before the answer."""
WITHDRAWN = "WITHDRAWN"
"""The shim has left the succession, and has not started."""

DESCRIPTORS = {SUCCEED: 3, BEFORE: 1, HAND_ON: 1}
"""The number of descriptors that come with a word."""


def slot_token(attempt_id: str, slot: str) -> bytes:
    """Return what an ended shim writes: its attempt and the name of its slot."""
    return f"{attempt_id} {slot}".encode()


def read_slot_token(data: bytes) -> tuple[str, str]:
    r"""Return attempt and slot of a token.

    >>> read_slot_token(slot_token("a1", "GPU-0,GPU-1")), read_slot_token(slot_token("a2", ""))
    (('a1', 'GPU-0,GPU-1'), ('a2', ''))
    """
    attempt_id, _, slot = data.decode().partition(" ")
    return attempt_id, slot


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
