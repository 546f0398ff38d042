"""Reading the bugs, putting one into a copy, and running the test that has to find it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
COPIED = ("leptond", "migrations", "systemd", "tests", "docs", "pyproject.toml", "README.md", "CHANGELOG.md")
TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Edit:
    """`old`, which stands exactly once in `file`, becomes `new`."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Bug:
    """A bug, and the tests (arguments of pytest) of which one must fail with it."""

    name: str
    words: str
    test: tuple[str, ...]
    quick: bool
    edits: tuple[Edit, ...]


class AnchorGone(AssertionError):
    """The code that a bug changes has changed itself."""


def read(file: Path) -> Bug:
    """A bug from its file."""
    head, *parts = re.split(r"^=== ", file.read_text(), flags=re.MULTILINE)
    lines = head.strip().splitlines()
    tests = [line.removeprefix("test:").strip() for line in lines if line.startswith("test:")]
    edits = []
    for part in parts:
        name, _, rest = part.partition("\n")
        for old, new in re.findall(
            r"^--- ?\n(.*?)^\+\+\+ ?\n(.*?)(?=^--- ?\n|\Z)", rest, re.DOTALL | re.MULTILINE
        ):
            edits.append(Edit(file=name.strip(), old=old, new=new))
    assert tests, f"{file.name} names no test"
    assert edits, f"{file.name} changes nothing"
    return Bug(
        name=file.stem,
        words=" ".join(line for line in lines if not line.startswith(("test:", "quick"))),
        test=tuple(tests),
        quick="quick" in lines,
        edits=tuple(edits),
    )


def bugs() -> list[Bug]:
    """All of them, in order."""
    return [read(file) for file in sorted(HERE.glob("[0-9]*.bug"))]


def apply(bug: Bug, root: Path) -> None:
    """Puts `bug` into the copy at `root`. Raises AnchorGone."""
    for edit in bug.edits:
        file = root / edit.file
        text = file.read_text()
        if text.count(edit.old) != 1:
            raise AnchorGone(
                f"{bug.name}: the anchor is gone: {edit.file} holds {text.count(edit.old)} times\n{edit.old}"
            )
        file.write_text(text.replace(edit.old, edit.new))


def copy(root: Path) -> None:
    """The program and its tests, as they are, to `root`."""
    root.mkdir(parents=True)
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(
                source, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", "planted")
            )
        elif source.exists():
            shutil.copy(source, root / name)


def run(tests: Sequence[str], root: Path) -> tuple[int, str, float]:
    """pytest in the copy: its exit code (1: a test failed), what it printed, how long it took."""
    command = [
        sys.executable,
        "-B",
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "--no-header",
        "-n",
        "0",
        *tests,
    ]
    env = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    begin = time.monotonic()
    done = subprocess.run(
        command, cwd=root, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    return done.returncode, done.stdout + done.stderr, time.monotonic() - begin


@dataclass(frozen=True)
class Verdict:
    """Whether a bug was caught; `words` say how, or what went wrong."""

    bug: Bug
    caught: bool
    words: str
    seconds: float


def hunt(bug: Bug, place: Path, *, healthy: bool) -> Verdict:
    """Plants `bug` in a copy below `place` and runs its test; with `healthy`, before that the same test in
    a copy without the bug, where it has to pass."""
    root = place / bug.name
    copy(root)
    try:
        if healthy:
            code, out, took = run(bug.test, root)
            if code != 0:
                return Verdict(
                    bug, False, f"its test fails without the bug (exit code {code}):\n{out[-3000:]}", took
                )
        apply(bug, root)
        code, out, took = run(bug.test, root)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    found = re.findall(r"^(?:FAILED|ERROR) (.*)$", out, re.MULTILINE)
    if code == 1:
        return Verdict(bug, True, found[0] if found else "", took)
    return Verdict(bug, False, f"exit code {code}:\n{out[-3000:]}", took)
