"""Sequences that steer a terminal, and control characters."""

from __future__ import annotations

import re

ESCAPE = re.compile(
    r"""
    (?P<sgr> \x1b \[ [0-9;:]{0,256} m )
  | \x1b \[ [\x30-\x3f]{0,256} [\x20-\x2f]{0,16} [\x40-\x7e]       # CSI: cursor, erase, modes
    # OSC, DCS, SOS, PM, APC: titles, clipboard
  | \x1b [\]PX^_] [^\x07\x1b\x9c\n]{0,4096} (?: \x07 | \x1b\\ | \x9c )
  | \x1b [\x20-\x2f]{0,16} [\x30-\x5a\x5c\x60-\x7e]                 # the two-character ones
    """,
    re.VERBOSE,
)
"""A whole sequence. One that is longer than any real one is text, so that none is waited for for ever."""

UNFINISHED = re.compile(
    r"\x1b(?:\[[\x30-\x3f]{0,256}[\x20-\x2f]{0,16}|[\]PX^_][^\x07\x1b\x9c\n]{0,4096}\x1b?|[\x20-\x2f]{0,16})?\Z"
)
"""The beginning of a sequence, at the end of a piece."""

CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Characters that do not belong into a text."""


def split_unfinished(text: str) -> tuple[str, str]:
    """Return a text without the beginning of a sequence at its end, and that beginning."""
    cut = UNFINISHED.search(text)
    return (text, "") if cut is None else (text[: cut.start()], cut[0])
