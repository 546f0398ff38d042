"""Limits, stops and graces."""

import json
import os
import signal
import time

from tests.support.daemon import gone, until
from tests.unit.engines.shim.harness import SHIM, Shim, started, stop


def test_what_a_job_writes_into_stop_json_does_not_end_its_shim(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    shim = Shim(tmp_path, ["sh", "-c", "read x < fifo; exit 5"], cwd=str(tmp_path))
    shim.line()
    shim.go()
    shim.line()
    mine = {"attempt_id": "a1", "reason": "cancel"}
    for text in ("[]", "7", "{}", json.dumps(mine), json.dumps({**mine, "grace_s": [1]}), '{"grace_s": NaN}'):
        (shim.directory / "stop.json").write_text(text)
        shim.process.send_signal(10)
    (tmp_path / "fifo").write_text("go\n")
    record = shim.end()
    assert record["exit_code"] == 5
    assert "stop_reason" not in record


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
