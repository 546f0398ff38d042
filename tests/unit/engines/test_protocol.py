"""What the start, the stop and the record of an attempt rest on, each tried where it would break."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from leptond.base import durable
from leptond.base.clock import kernel_boot_id
from leptond.core.jobs.model import Identity
from leptond.engines import procs
from tests.support.daemon import gone, until
from tests.unit.engines.test_shim import SHIM, Shim

PYTHON = sys.executable


def test_a_process_that_merely_has_the_pid_is_not_the_one():
    innocent = subprocess.Popen(["sleep", "600"])
    try:
        ticks = procs.start_ticks(innocent.pid)
        right = Identity(boot_id=kernel_boot_id(), pid=innocent.pid, start_ticks=ticks)
        pidfd = procs.pin(right)
        assert pidfd is not None
        os.close(pidfd)
        earlier = Identity(boot_id=kernel_boot_id(), pid=innocent.pid, start_ticks=ticks - 1)
        assert procs.pin(earlier) is None
        before_the_reboot = Identity(boot_id="another", pid=innocent.pid, start_ticks=ticks)
        assert procs.pin(before_the_reboot) is None
    finally:
        innocent.kill()
        innocent.wait()


def test_a_record_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    seen = []

    def sync(_: int) -> None:
        seen.append(sorted(file.read_text() for file in tmp_path.glob("exit.json")))
        raise OSError(5, "the disk is broken")

    monkeypatch.setattr(durable.os, "fsync", sync)
    with pytest.raises(OSError, match="broken"):
        durable.write_durably(str(tmp_path), "exit.json", '{"exit_code": 0}')
    assert seen == [[]], "nobody may read it before it is on disk"
    monkeypatch.undo()
    durable.write_durably(str(tmp_path), "exit.json", "old")
    monkeypatch.setattr(durable.os, "fsync", sync)
    with pytest.raises(OSError, match="broken"):
        durable.write_durably(str(tmp_path), "exit.json", "new")
    assert (tmp_path / "exit.json").read_text() == "old"


def started(attempt: Path, script: str, **more) -> Shim:
    one = Shim(attempt, [PYTHON, "-c", script], **more)
    one.line()
    one.go()
    one.line()
    return one


def stop(one: Shim, grace_s: float) -> None:
    """As LocalEngine.stop."""
    wanted = {"attempt_id": "a1", "reason": "cancel", "grace_s": grace_s}
    durable.write_durably(str(one.directory), "stop.json", json.dumps(wanted))
    one.process.send_signal(signal.SIGUSR1)


def test_workers_in_sessions_of_their_own_are_killed_too(tmp_path):
    worker = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
    script = (
        "import subprocess, sys, time\n"
        f"one = subprocess.Popen([sys.executable, '-c', {worker!r}], start_new_session=True)\n"
        "print('worker', one.pid, flush=True); time.sleep(600)"
    )
    one = started(tmp_path, script, kill_timeout_s=4.0)
    log = one.directory / "output.log"
    until(lambda: log.read_text().count("\n") == 2, "the worker")
    pid = int(log.read_text().split("worker ")[1].split()[0])
    stop(one, 0.0)
    try:
        assert one.end()["unkillable"] == 0
        assert gone(pid, 0)
    finally:
        if not gone(pid, 0):
            os.kill(pid, 9)


def test_asking_again_does_not_restart_the_grace(tmp_path):
    script = (
        "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    )
    one = started(tmp_path, script)
    until(lambda: "up" in (one.directory / "output.log").read_text())
    # as daemons that crash and come back do, more often than a grace that began anew could bear
    for _ in range(30):
        stop(one, 2.0)
        if gone(one.process.pid, 0.5):
            break
    else:
        one.process.send_signal(signal.SIGCONT)
        stop(one, 0.0)
        one.end()
        raise AssertionError("the grace of 2 s was not over after 30 requests in 15 s")
    assert one.end()["signal"] == signal.SIGKILL


JUMPING = """
import runpy, sys, time
wall, begin = time.time, time.monotonic()
gettime = time.clock_gettime
def jumped():
    return 1e7 if time.monotonic() - begin > 0.5 else 0.0
time.time = lambda: wall() + jumped()
time.clock_gettime = lambda clock: gettime(clock) + (jumped() if clock == time.CLOCK_REALTIME else 0.0)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_jump_of_the_wall_clock_ends_nothing(tmp_path):
    jumping = tmp_path / "jumping.py"
    jumping.write_text(JUMPING)
    go = tmp_path / "go"
    attempt = tmp_path / "a"
    attempt.mkdir()
    script = (
        "import os, sys, time\n"
        "print('up', flush=True)\n"
        f"while not os.path.exists({str(go)!r}): time.sleep(0.05)\n"
        "sys.exit(41)"
    )
    program = (str(jumping), str(SHIM))
    one = started(attempt, script, program=program, time_limit_s=3600.0, grace_s=0.0)
    until(lambda: "up" in (one.directory / "output.log").read_text())
    time.sleep(1.0)  # the clock jumps half a second after the shim's begin; nothing tells when it has
    one.process.send_signal(signal.SIGUSR1)  # it looks at its timers
    time.sleep(0.2)
    go.touch()
    record = one.end()
    assert (record["exit_code"], record.get("stop_reason")) == (41, None)
    assert 0 < record["run_s"] < 3600
