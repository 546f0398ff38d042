"""A start in a terminal, as a newcomer sees it."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

from tests.support.daemon import PATIENCE_S


def read_until(fd: int, text: str) -> str:
    """What the terminal shows, once `text` is in it."""
    seen = b""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if select.select([fd], [], [], 0.1)[0]:
            seen += os.read(fd, 4096)
        if text.encode() in seen:
            return seen.decode().replace("\r\n", "\n")
    raise AssertionError(f"{text!r} is not shown: {seen.decode()}")


def test_it_ends_with_the_page_and_what_to_type_next(tmp_path: Path):
    home = tmp_path / "home"
    home.mkdir()
    env = {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "NO_COLOR": "1",
        "XDG_RUNTIME_DIR": str(tmp_path),
        "LEPTOND_ENGINE__WARM": "false",
    }
    words = [sys.executable, "-m", "leptond", "run", "--listen", "127.0.0.1:0", "--simulate-gpus", "2"]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(words, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    try:
        os.close(theirs)
        shown = read_until(ours, "leptonctl doctor\n".replace("\n", "\r\n"))
    finally:
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
        os.close(ours)
    assert "warning" not in shown.lower()
    end = shown.partition("is ready, with 2 simulated GPUs")[2]
    assert re.search(r"The page: http://127\.0\.0\.1:[1-9]\d+/#login=[\w-]+\n", end)
    assert "leptonctl submit --gpus 1" in end
    assert "=" not in end.partition("#login=")[2], "no key=value lines come after it"
