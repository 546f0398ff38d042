"""The help of every command of both programs, taken apart into usage, prose and one entry an option:
``python -m tests.compat.commands`` prints it as JSON."""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

PROGRAMS = {"leptonctl": ("leptond.cli", "main"), "leptond": ("leptond.__main__", "main")}
"""Programs, and the functions that start them (`[project.scripts]` of pyproject.toml)."""
NOT_COMMANDS = {"Options"}
ENTRY = re.compile(r"  (\S.*?)(?: {2,}(\S.*))?")


def collect() -> dict[str, Any]:
    """Help by the words that ask for it, such as ``leptonctl queues add``."""
    found: dict[str, Any] = {}
    for program, (module, name) in PROGRAMS.items():
        _walk(getattr(import_module(module), name), (program,), found)
    return found


def _walk(main: Callable[[], Any], words: tuple[str, ...], found: dict[str, Any]) -> None:
    page = parse(_help(main, words))
    found[" ".join(words)] = page
    for section, entries in page.items():
        if isinstance(entries, dict) and section not in NOT_COMMANDS:
            for name in entries:
                _walk(main, (*words, name), found)


def _help(main: Callable[[], Any], words: tuple[str, ...]) -> str:
    out = io.StringIO()
    sys.argv = [*words, "--help"]
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main()
    return out.getvalue()


def parse(text: str) -> dict[str, Any]:
    """A page of help: `usage` and `prose` as text, each headed list as its entries; those of options
    together."""
    page: dict[str, Any] = {}
    prose: list[str] = []
    blocks = re.split(r"\n\s*\n", text.strip("\n"))
    for block in blocks:
        first, *rest = block.splitlines()
        if first.startswith("Usage: "):
            # the program is called by its module in tests and by its name by users
            page["usage"] = re.sub(r"^python -m leptond\b", "leptond", " ".join(block[7:].split()))
        elif rest and first.endswith(":") and not first.startswith(" ") and rest[0].startswith("  -"):
            # options are options, whatever the heading that they stand under
            page.setdefault("Options", {}).update(_entries(rest))
        elif re.fullmatch(r"[A-Z][a-z]+:", first):
            page[first[:-1]] = _entries(rest)
        else:
            prose.append(" ".join(block.split()))
    return page | {"prose": "\n".join(prose)}


def _entries(lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    name = ""
    for line in lines:
        entry = ENTRY.fullmatch(line)
        if entry is not None:
            name, told = entry[1], entry[2] or ""
            found[name] = told
        else:
            found[name] = f"{found[name]} {line.strip()}".strip()
    return found


if __name__ == "__main__":
    print(json.dumps(collect()))
