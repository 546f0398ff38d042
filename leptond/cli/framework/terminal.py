"""Writing to a terminal or a pipe: at once, and with nothing in it that steers a terminal."""

from __future__ import annotations

import re
import sys

# C0, DEL, C1, line and paragraph separators, and the marks that reorder text around them
_UNSAFE = "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]"


def echo(text: object = "", *, end: str = "\n", err: bool = False) -> None:
    """Write a line, at once: what a command says must not wait for its end. Raises OSError."""
    stream = sys.stderr if err else sys.stdout
    if stream is None:  # a caller has closed it
        return
    try:
        stream.write(f"{text}{end}")
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard error" if err else "standard output") from None


def clean(text: object, *, keep: str = "") -> str:
    """`text` without control characters, except those in `keep`; a line break becomes a space.

    >>> clean("a\\x1b[2Jb\\nc")
    'a[2Jb c'
    """

    whole = str(text)
    if whole.isascii() and whole.isprintable():
        return whole

    def replacement(match: re.Match[str]) -> str:
        return match[0] if match[0] in keep else " " if match[0] in "\t\n\r" else ""

    return re.sub(_UNSAFE, replacement, whole)
