"""A kill is total, and what cannot be killed is counted."""

import os

from tests.support.daemon import gone, until
from tests.unit.engines.shim.harness import TOP, Shim, started, stop

POWERLESS = """
import os, sys
sys.path.append(sys.argv[1])
from leptond.engines.shim import kill, program, stopping
kill.send = lambda pid, number, uid=None, root=None: None
stopping.send_to = lambda pid, ticks, number: False
os.killpg = lambda group, number: None
program.main()
os._exit(0)
"""
"""The shim, on a machine where no signal does anything."""


def test_what_cannot_be_killed_is_given_up_and_counted(tmp_path):
    shim = Shim(
        tmp_path,
        ["sh", "-c", "echo before; exec cat fifo"],
        cwd=str(tmp_path),
        program=("-c", POWERLESS, str(TOP)),
        time_limit_s=0.2,
        grace_s=0.1,
        kill_timeout_s=0.3,
    )
    os.mkfifo(tmp_path / "fifo")
    shim.line()
    shim.go()
    pid = int(shim.line().split()[1])
    record = shim.end()
    assert (record["unkillable"], record["stop_reason"], record["killed"]) == (1, "timeout", True)
    assert "exit_code" not in record
    assert "signal" not in record
    assert (shim.directory / "output.log").read_text() == "before\n"
    os.kill(pid, 9)


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
