"""The parts of a snapshot, collected by programs of their own: what they import, and whose warnings they
raise, is none of a test's business."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.compat.compare import without_measurements

TOP = Path(__file__).parents[2]
HERE = Path(__file__).parent
PARTS = (
    "help",
    "python",
    "settings",
    "json",
    "columns",
    "openapi",
    "metrics",
    "environment",
    "files",
    "tables",
)


MEASURED = {"cost": frozenset({"advice", "causes"})}
"""Answers that consist of what was measured, and their lists of whatever was large enough. Their fields are
compared here and in the OpenAPI document, their sums in tests of their own."""


def alone(module: str, *arguments: str) -> Any:
    """What one of the collecting programs prints."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.compat.{module}", *arguments],
        cwd=TOP,
        env={**os.environ, "PYTHONPATH": str(TOP), "COLUMNS": "80", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def of_code(known: Path | None = None) -> dict[str, Any]:
    """The parts that need no daemon; `known` is a snapshot of the Python API whose names are looked for."""
    return {
        "help": alone("commands"),
        "python": alone("python_api", *([str(known)] if known else [])),
        "settings": alone("settings"),
    }


def of_daemon() -> dict[str, Any]:
    """The parts that a running daemon shows."""
    found: dict[str, Any] = alone("live")
    return found


def comparable(part: str, value: Any) -> Any:
    """A part as it is compared: without what depends on the speed of the machine."""
    if part != "json":
        return value
    return value | {name: without_measurements(value[name], lists) for name, lists in MEASURED.items()}


def read(version: str) -> dict[str, Any]:
    """The snapshot of a release."""
    return {part: json.loads((HERE / version / f"{part}.json").read_text()) for part in PARTS}


def text(value: Any, indent: int = 0, width: int = 110) -> str:
    """JSON with whatever fits on a line on one line."""
    flat = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or len(flat) + indent <= width:
        return flat
    pad = "\n" + " " * (indent + 1)
    if isinstance(value, list):
        return f"[{pad}{f',{pad}'.join(text(item, indent + 1, width) for item in value)}]"
    items = (f"{json.dumps(key)}: {text(inner, indent + 1, width)}" for key, inner in value.items())
    return f"{{{pad}{f',{pad}'.join(items)}}}"
