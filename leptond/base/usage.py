"""The error for a call that is wrong as it is spelled, found before anything is sent (exit code 2)."""

from __future__ import annotations


class UsageError(Exception):
    """A call that cannot be carried out as it is spelled; `option` names the one whose value is wrong."""

    def __init__(self, message: str, *, option: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.option = option
