"""`leptonctl top`: its picture as values, and the whole on a real terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator

import pytest

from leptond.cli.text.top_view import Picture, draw, sparkline
from tests.support.daemon import Daemon, until

STATUS = {
    "counts": {"running": 1, "pending": 1},
    "gpus": [
        {
            "index": 0,
            "uuid": "GPU-a",
            "name": "H100",
            "present": True,
            "drained": False,
            "schedulable": True,
            "job_id": 4,
            "memory_total_bytes": 80 << 30,
            "memory_used_bytes": 20 << 30,
            "utilization": 0.5,
        }
    ],
    "oldest_wait_s": 60,
    "failed_recently": [],
    "running": [{"id": 4, "ref": "4", "name": "train", "user": "ana"}],
}


def job(number: int, **more: object) -> dict[str, object]:
    return {
        "id": number,
        "ref": str(number),
        "name": f"job-{number}",
        "user": "ana",
        "gpus": 1,
        "state": "pending",
        "priority": 0,
        "attempt": 0,
        "held": False,
        "submitted_at": "2026-01-01T00:00:00Z",
        "reason": "Resources",
        "reason_detail": "needs 1 GPU, 0 free",
        **more,
    }


def text(picture: Picture, width: int = 120, height: int = 30) -> list[str]:
    lines = draw(picture, width, height)
    assert len(lines) == height
    return ["".join(part for part, _ in line) for line in lines]


@pytest.mark.parametrize(("width", "height"), [(20, 5), (80, 24), (200, 60)])
def test_the_picture_fits_every_terminal(width, height):
    queue = [job(i) for i in range(100)]
    picture = Picture(status=STATUS, queue=queue, selected=50, log=["x" * 500] * 50)
    assert all(len(line) <= width for line in text(picture, width, height))


def test_the_selected_job_is_in_view_and_moves():
    picture = Picture(status=STATUS, queue=[job(i) for i in range(100)], selected=0)
    for _ in range(70):
        picture.move(1)
    assert picture.selected == 70
    assert any("job-70" in line for line in text(picture))
    picture.move(1000)
    assert picture.selected == 99
    picture.move(-1000)
    assert picture.selected == 0


def test_following_gives_the_log_the_screen():
    picture = Picture(
        status=STATUS, queue=[job(i) for i in range(50)], selected=4, log=[f"l{i}" for i in range(90)]
    )
    assert sum(line.startswith("l") for line in text(picture)) < 15
    picture.following = True
    assert sum(line.startswith("l") and line != "leptond" for line in text(picture)) > 20


def test_a_job_cannot_steer_the_terminal():
    picture = Picture(status=STATUS, queue=[job(4)], selected=4, log=["\x1b[2Jgone\x07"])
    assert not any("\x1b" in line or "\x07" in line for line in text(picture))


def test_a_stale_picture_says_so():
    assert "does not answer" in "".join(text(Picture(status=STATUS, stale="the daemon does not answer")))
    assert "does not answer" in "".join(text(Picture(stale="the daemon does not answer")))


def test_unknown_minutes_are_dots():
    assert sparkline([None, 0.5, 1.0], 4) == "··▄█"


@pytest.fixture
def daemon(tmp_path) -> Iterator[Daemon]:
    one = Daemon(tmp_path / "state", "--simulate-gpus", "2")
    one.start()
    yield one
    one.close()


class Screen:
    """A program on a terminal of 120 x 30."""

    def __init__(self, daemon: Daemon, *words: str) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
        env = {**daemon.env, "LEPTOND_HOST": f"unix://{daemon.socket}", "TERM": "xterm-256color"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "leptond.cli", *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=env,
            start_new_session=True,
        )
        os.close(slave)
        os.set_blocking(self.master, False)
        self.seen = ""

    def shows(self, pattern: str) -> None:
        """Waits until it is on the screen, from here on."""

        def look() -> bool:
            try:
                while data := os.read(self.master, 65536):
                    self.seen += data.decode("utf-8", "replace")
            except (BlockingIOError, OSError):
                pass
            return re.search(pattern, self.seen) is not None

        until(look, f"{pattern} on the screen")
        self.seen = ""

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())


def test_on_a_real_terminal(daemon):
    holder = daemon.submit("sh", "-c", "echo out of the job; sleep 600", gpus=2, name="holder")
    daemon.printed(holder, "out of the job")
    other = daemon.submit("true", gpus=1, name="other")
    screen = Screen(daemon, "top", "--delay", "0.2")
    try:
        screen.shows("holder")
        screen.shows("out of the job")
        screen.press("\x1b[B")  # down, to the job that waits
        screen.press("h")
        until(lambda: daemon.job(other)["held"], "held")
        screen.press("h")
        until(lambda: not daemon.job(other)["held"], "released")
        screen.press("+")
        until(lambda: daemon.job(other)["priority"] == 1, "priority 1")
        screen.press("c")
        screen.shows("c once more")
        screen.press("c")
        assert daemon.finished(other)["state"] == "cancelled"
        screen.press("f")
        screen.shows("out of the job")
        screen.press("q")
        assert screen.process.wait(60) == 0
    finally:
        if screen.process.poll() is None:
            screen.process.kill()
            screen.process.wait(60)
        os.close(screen.master)
    daemon.post(f"/v1/jobs/{holder}/cancel", {"grace_s": 0})
