"""Values of parameters, as people write them. Standard library alone: the command line uses it too."""

from __future__ import annotations

import math
import re

_INT = re.compile(r"^[+-]?[0-9]{1,15}\Z")
_FLOAT = re.compile(r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?\Z")


def scalar(text: str) -> int | float | str:
    """Return the value of a word: a whole number, a number, or the word itself.

    >>> scalar("3"), scalar("1e-3"), scalar("adamw"), scalar("nan")
    (3, 0.001, 'adamw', 'nan')
    """
    if _INT.match(text):
        return int(text)
    if _FLOAT.match(text) and math.isfinite(float(text)):
        return float(text)
    return text


def choices(text: str) -> list[int | float | str]:
    """The values of a list with commas. Raises ValueError.

    >>> choices("8,16, adamw")
    [8, 16, 'adamw']
    """
    words = text.split(",")
    if not all(word.strip() for word in words):
        raise ValueError(f"{text!r} has an empty value in it")
    return [scalar(word.strip()) for word in words]
