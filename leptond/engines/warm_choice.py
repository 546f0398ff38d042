"""How it was decided that a command starts."""

from __future__ import annotations

import msgspec


class Choice(msgspec.Struct, frozen=True):
    """How a command may start. `mode` is how it starts as far as is known now (``warm``, ``cold: WHY``);
    `environment` is the key of its environment among the warm ones, in which `command` (directory, target)
    names it. `better_later`: it would start in a better way once a process is ready that is being made."""

    mode: str
    environment: str = ""
    command: tuple[str, str] = ("", "")
    better_later: bool = False
