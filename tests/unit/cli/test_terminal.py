"""On a terminal: tables, colours, and nothing that steers it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from leptond.core.jobs.model import State
from tests.unit.cli.stub import Answer, Stub, ended, make_gpu, make_job, make_status, page

SGR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def terminal(stub: Stub):
    """`terminal("queue")` is what leptonctl writes to a terminal of 100 columns."""

    def call(*words: str, **env: str) -> str:
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        process = subprocess.Popen(
            [sys.executable, "-m", "leptond.cli", *words],
            stdin=slave,
            stdout=slave,
            stderr=subprocess.DEVNULL,
            env={
                **{name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")},
                "PYTHONPATH": str(Path(__file__).parents[3]),
                "TERM": "xterm-256color",
                "LANG": "C.UTF-8",
                **env,
            },
        )
        os.close(slave)
        out = b""
        try:
            while piece := os.read(master, 65536):
                out += piece
        except OSError:
            pass  # the other end is closed: it has ended
        finally:
            os.close(master)
        assert process.wait(60) == 0
        return out.decode().replace("\r\n", "\n")

    return call


def test_queue_is_a_coloured_table_that_fits(terminal, stub: Stub):
    running = make_job(
        id=45, state=State.RUNNING, started_at="2026-03-04T10:00:00Z", gpu_indices=[0], time_limit_s=43200.0
    )
    stub.on("GET", "/v1/jobs", page(running, make_job(reason_detail="a reason " * 20, name="a\x1b[2J\x9bb")))
    shown = terminal("queue")
    assert "\x1b[32mrunning" in shown
    plain = SGR.sub("", shown)
    assert "\x1b" not in plain
    assert "\x9b" not in plain
    assert "\t" not in plain
    assert max(map(len, plain.splitlines())) <= 100
    assert re.search(r"45 +train\.py +ana +1 on 0 +0 +running +\S+ +12h", plain)
    assert SGR.search(terminal("queue", NO_COLOR="1")) is None
    assert SGR.search(terminal("--no-color", "queue")) is None


def test_status_is_one_screen(terminal, stub: Stub):
    status = make_status(
        counts={**dict.fromkeys(State, 0), State.RUNNING: 1, State.PENDING: 2},
        held=1,
        running=[make_job(id=45, state=State.RUNNING, started_at="2026-03-04T10:00:00Z")],
        next=[make_job(id=47)],
        failed_recently=[ended(State.FAILED, id=40, exit_code=1)],
        gpus=[make_gpu(0, job_id=45), make_gpu(1)],
        oldest_wait_s=3700.0,
    )
    stub.on("GET", "/v1/status", status)
    shown = terminal("status", NO_COLOR="1")
    for part in (
        "NVIDIA H100  1 GiB / 80 GiB",
        "Running",
        "Next",
        "Resources: needs 4 GPUs, 1 free",
        "Failed lately",
        "1 running · 2 pending (1 held) · oldest waits 1h1m · GPUs 1/2 in use · CPU slots 1/8 in use",
        "leptond 0.1.0 ready · user mode · pid 4121",
        "All is well.",
    ):
        assert part in shown, part
    assert len(shown.splitlines()) <= 24
    stub.on("GET", "/v1/status", make_status(warnings=["the disk is full"]))
    troubled = terminal("status", NO_COLOR="1")
    assert "warning: the disk is full" in troubled
    assert "All is well" not in troubled


def test_show_and_history_and_gpus_are_tables(terminal, stub: Stub):
    stub.on("GET", "/v1/jobs/47", ended(State.FAILED, exit_code=3, attempts=[]))
    stub.on("GET", "/v1/jobs", page(ended(State.FAILED, exit_code=3)))
    stub.on("GET", "/v1/gpus", {"items": [make_gpu(0)], "backend": "nvml", "note": None})
    assert re.search(r"state +failed", terminal("show", "47", NO_COLOR="1"))
    assert "leptonctl submit --name train.py" in terminal("show", "47")
    assert re.search(r"47 +train\.py +ana +1 +failed +3", terminal("history", NO_COLOR="1"))
    assert "300 W" in terminal("gpus", NO_COLOR="1")


def test_logs_keep_their_colours_and_put_them_back(terminal, stub: Stub):
    headers = {"X-Log-Size": "1", "X-Log-Next-Offset": "1"}
    stub.on("GET", "/v1/jobs/47/log", Answer(pieces=[b"\x1b[31mred\x1b]0;title\x07!"], headers=headers))
    assert terminal("logs", "47") == "\x1b[31mred!\x1b[0m\n"
    assert terminal("logs", "47", NO_COLOR="1") == "red!\n"


def test_json_on_a_terminal_is_indented(terminal, stub: Stub):
    stub.job()
    assert terminal("show", "47", "--json").startswith('{\n  "id": 47,')
