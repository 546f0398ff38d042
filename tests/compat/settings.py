"""Configuration keys with their defaults, each also set by its environment variable: ``python -m
tests.compat.settings`` prints them as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TOP = Path(__file__).parents[2]
Sections = Mapping[str, Mapping[str, Any]]


def collect() -> dict[str, dict[str, Any]]:
    """Defaults by section and key, as ``leptond check-config`` prints them when every key is set by its
    environment variable."""
    return check("", environment(check("", {})))


def environment(sections: Sections) -> dict[str, str]:
    """The variables that set every key."""
    return {
        f"LEPTOND_{section.upper()}__{key.upper()}": value if isinstance(value, str) else json.dumps(value)
        for section, keys in sections.items()
        for key, value in keys.items()
    }


def check(text: str, variables: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """What ``leptond check-config`` makes of a configuration and an environment. Raises AssertionError when
    it refuses them."""
    with tempfile.TemporaryDirectory(prefix="compat") as home:
        file = Path(home) / "config.toml"
        file.write_text(text)
        done = subprocess.run(
            [sys.executable, "-m", "leptond", "check-config", "--config", str(file)],
            env={"PATH": os.environ["PATH"], "HOME": home, "PYTHONPATH": str(TOP), **variables},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return tomllib.loads(done.stdout)


def toml(sections: Sections) -> str:
    """The same as the text of a configuration file."""
    lines = []
    for section, keys in sections.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items() if value != {}]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(json.dumps(collect()))
