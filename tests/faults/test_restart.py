"""A restart of the daemon, wanted or not, disturbs no running job."""

import os
import sqlite3
import subprocess
import sys
import time
from datetime import datetime

import pytest

from leptond.core.jobs.timespec import parse_duration
from tests.faults.invariants import Evidence, check
from tests.support.daemon import Daemon, gone, parent_of, until

PYTHON = sys.executable

COUNTING = """
import os, signal, sys, time
for number in (1, 2, 15):
    signal.signal(number, lambda n, _: print("SIGNAL", n, flush=True))
print("pid", os.getpid(), flush=True)
i = 0
while not os.path.exists(sys.argv[1]):
    print("line", i, flush=True)
    i += 1
    time.sleep(0.001)
print("last", i, flush=True)
sys.exit(7)
"""


STUBBORN = """
import signal, time
signal.signal(15, lambda *_: print('TERM', flush=True))
print('up', flush=True)
while True:
    time.sleep(1)
"""


@pytest.mark.parametrize("how", ["terminate", "kill"])
def test_a_running_job_does_not_notice(daemon, tmp_path, how):
    go = tmp_path / "go"
    job = daemon.submit(PYTHON, "-c", COUNTING, str(go), gpus=2)
    daemon.printed(job, "line 20")
    daemon.pid(job)
    before = daemon.job(job)["attempts"][0]
    for _ in range(2):
        getattr(daemon, how)()
        daemon.start()
    assert daemon.job(job)["state"] == "running"
    go.touch()
    done = daemon.finished(job)
    assert (done["state"], done["exit_code"], done["attempt"]) == ("failed", 7, 1)
    after = done["attempts"][0]
    assert (after["pid"], after["id"], after["gpus"]) == (before["pid"], before["id"], before["gpus"])
    lines = daemon.output(job).splitlines()
    assert lines[0] == f"pid {before['pid']}"
    assert "SIGNAL" not in daemon.output(job)
    count = int(lines[-1].split()[1])
    assert lines[1:-1] == [f"line {i}" for i in range(count)], "no line is lost"
    assert after["log_bytes"] == len(daemon.output(job))


@pytest.mark.parametrize("how", ["terminate", "kill"])
def test_a_job_that_ends_while_the_daemon_is_down(daemon, tmp_path, how):
    go = tmp_path / "go"
    job = daemon.submit(PYTHON, "-c", COUNTING, str(go), gpus=1)
    daemon.printed(job, "line 5")
    pid = daemon.pid(job)
    getattr(daemon, how)()
    go.touch()
    assert gone(pid)
    daemon.start()
    done = daemon.finished(job)
    assert (done["state"], done["exit_code"], done["attempt"]) == ("failed", 7, 1)
    assert daemon.output(job).splitlines()[-1].startswith("last")
    assert all(gpu["job_id"] is None for gpu in daemon.get("/v1/gpus").json["items"])


def test_the_limit_and_the_kill_come_while_the_daemon_is_down(daemon):
    job = daemon.submit(PYTHON, "-c", STUBBORN, time_limit_s=2, grace_s=1, gpus=1)
    daemon.printed(job, "up")
    pid = daemon.pid(job)
    daemon.kill()
    assert gone(pid)
    daemon.start()
    done = daemon.finished(job)
    assert (done["state"], done["signal"], done["attempt"]) == ("timed_out", "SIGKILL", 1)
    assert daemon.output(job) == "up\nTERM\n"
    assert 3.0 <= done["attempts"][0]["run_s"]


def test_a_limit_that_passes_while_everything_is_dead_is_not_its_end(daemon):
    job = daemon.submit("sh", "-c", "[ $LEPTOND_ATTEMPT = 2 ] || sleep 600", time_limit_s=2, gpus=1)
    daemon.reached(job, "running")
    pid = daemon.pid(job)
    deadline = daemon.job(job)["attempts"][0]["started_at"]
    shim = parent_of(pid)
    daemon.kill()
    os.kill(shim, 9)
    os.kill(pid, 9)
    assert gone(pid)
    begun = datetime.fromisoformat(deadline).timestamp()
    until(lambda: time.time() > begun + 3.5, "the limit to pass")
    daemon.start()
    done = daemon.finished(job)
    assert (done["state"], done["attempt"]) == ("succeeded", 2)
    assert (done["attempts"][0]["class"], done["attempts"][0]["stop_reason"]) == ("infra-node", None)


def test_a_crash_inside_the_grace_neither_restarts_nor_forgets_it(daemon):
    job = daemon.submit(PYTHON, "-c", STUBBORN, grace_s=4, gpus=1)
    daemon.printed(job, "up")
    asked = time.monotonic()
    assert daemon.post(f"/v1/jobs/{job}/cancel").status == 202
    daemon.printed(job, "TERM")
    daemon.kill()
    daemon.start()
    done = daemon.finished(job)
    assert (done["state"], done["signal"]) == ("cancelled", "SIGKILL")
    assert 4.0 <= time.monotonic() - asked
    assert daemon.output(job).count("TERM") == 1, "one signal, not one for each daemon"


def test_a_backoff_survives_a_crash(daemon):
    job = daemon.submit("sh", "-c", "[ $LEPTOND_ATTEMPT = 2 ]", retries=1, retry_delay_s=3600)
    until(lambda: daemon.job(job)["reason"] == "Backoff")
    before = daemon.get(f"/v1/jobs/{job}/why").json["sentence"]
    daemon.kill()
    daemon.start()
    assert daemon.job(job)["reason"] == "Backoff"
    after = daemon.get(f"/v1/jobs/{job}/why").json["sentence"]
    left = [
        parse_duration(sentence.split("retry in ")[1].split()[0], bare_s=1) for sentence in (before, after)
    ]
    assert 0 < left[1] <= left[0], "it runs on, and does not begin anew"
    assert daemon.post(f"/v1/jobs/{job}/retry").status == 200
    done = daemon.finished(job)
    assert (done["state"], done["attempt"]) == ("succeeded", 2)


def test_a_lost_shim_does_not_free_the_gpu_before_its_job_is_gone(daemon):
    job = daemon.submit(PYTHON, "-c", "import time; print('up', flush=True); time.sleep(600)", gpus=4)
    daemon.printed(job, "up")
    pid = daemon.pid(job)
    shim = parent_of(pid)
    os.kill(shim, 9)
    assert gone(pid)
    again = until(lambda: (seen := daemon.job(job))["attempt"] == 2 and seen, "a second attempt")
    first = again["attempts"][0]
    assert (first["class"], first["rule"]) == ("infra-node", "shim-lost")
    daemon.printed(job, "up")
    daemon.post(f"/v1/jobs/{job}/cancel", {"grace_s": 0})
    daemon.finished(job)
    check(Evidence(daemon.state_dir, daemon.state_dir / "none"), [job])


def test_no_requeue_ends_as_lost(daemon):
    job = daemon.submit(PYTHON, "-c", "import time; print('up', flush=True); time.sleep(600)", requeue=False)
    daemon.printed(job, "up")
    pid = daemon.pid(job)
    shim = parent_of(pid)
    os.kill(shim, 9)
    done = daemon.finished(job)
    assert (done["state"], done["attempt"]) == ("lost", 1)
    assert gone(pid)


def test_a_second_daemon_is_refused_with_the_holders_pid(daemon):
    command = [PYTHON, "-m", "leptond", "run", "--state-dir", str(daemon.state_dir), "--simulate-gpus", "4"]
    second = subprocess.run(command, env=daemon.env, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 75
    assert f"pid {daemon.process.pid}" in second.stderr
    assert "Traceback" not in second.stderr
    assert daemon.get("/readyz").status == 200


def test_a_newer_database_is_refused_and_not_changed(tmp_path):
    one = Daemon(tmp_path / "state", "--simulate-gpus", "1")
    one.start()
    one.terminate()
    db = sqlite3.connect(tmp_path / "state" / "leptond.db")
    db.execute("PRAGMA user_version = 9999")
    db.commit()
    db.close()
    with pytest.raises(AssertionError, match="ended with 78"):
        one.start()
    assert "newer leptond" in one.log.read_text()


def test_a_lost_shims_job_is_found_though_it_cleared_its_environment(daemon, tmp_path):
    bare = "import time; print('up', flush=True); time.sleep(600)"
    script = f"import os, sys; os.execve(sys.executable, [sys.executable, '-c', {bare!r}], {{}})"
    job = daemon.submit(PYTHON, "-c", script, gpus=4, requeue=False)
    daemon.printed(job, "up")
    pid = daemon.pid(job)
    daemon.restart()
    os.kill(parent_of(pid), 9)
    assert daemon.finished(job)["state"] == "lost"
    assert gone(pid, 0), "the GPUs are free, so nobody may be left"


def test_a_look_that_was_killed_does_not_keep_the_daemon_out(daemon):
    daemon.kill()
    left = daemon.state_dir / ".look-killed"
    left.mkdir()
    os.link(daemon.state_dir / "leptond.db", left / "leptond.db")
    daemon.start()
    assert not left.exists()
