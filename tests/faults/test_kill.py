"""A cancel ends every process of a job, whatever it did to get away."""

import json
import os
import sys
from pathlib import Path

import pytest

from tests.daemon import Daemon, alive_with_cookie, gone, until

PYTHON = sys.executable

ZOO = {
    "ignores SIGTERM": "import signal; signal.signal(15, signal.SIG_IGN); say(); rest()",
    "forks twice and leaves its session": """
import signal
signal.signal(15, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        say(); rest()
    os._exit(0)
say(); rest()
""",
    "clears its environment on the way": """
import signal
signal.signal(15, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        say()
        os.execve(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)"], {})
    os._exit(0)
say(); rest()
""",
    "has the shape of torchrun": """
import subprocess
workers = [
    subprocess.Popen(
        [sys.executable, "-c", "import signal,time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"],
        start_new_session=True,
    )
    for _ in range(3)
]
for worker in workers:
    say(worker.pid)
say(); rest()
""",
    "stops itself": "import signal; say(); os.kill(os.getpid(), signal.SIGSTOP); rest()",
    "leaves a child behind when it ends": """
ready, told = os.pipe()
if os.fork() == 0:
    os.setsid()
    import signal
    signal.signal(15, signal.SIG_IGN)
    say()
    os.write(told, b"x")
    rest()
say()
os.read(ready, 1)
os._exit(0)
""",
    "forks a crowd": """
import signal
signal.signal(15, signal.SIG_IGN)
for _ in range(40):
    if os.fork() == 0:
        say(); rest()
say(); rest()
""",
}

PROLOGUE = """
import os, sys, time
def say(pid=None):
    fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{pid or os.getpid()}\\n".encode())
    os.close(fd)
def rest():
    time.sleep(600)
"""
EXPECTED = {"forks a crowd": 41, "has the shape of torchrun": 4, "ignores SIGTERM": 1, "stops itself": 1}


@pytest.mark.parametrize("kind", list(ZOO))
def test_nothing_survives_a_cancel(daemon, tmp_path, kind):
    pids_file = tmp_path / "pids"
    job = daemon.submit(PYTHON, "-c", PROLOGUE + ZOO[kind], str(pids_file), gpus=1)
    wanted = EXPECTED.get(kind, 2)
    until(lambda: pids_file.exists() and len(pids_file.read_text().split()) >= wanted, "its processes")
    pids = [int(pid) for pid in pids_file.read_text().split()]
    if kind != "leaves a child behind when it ends":
        answer = daemon.post(f"/v1/jobs/{job}/cancel", {"grace_s": 0.3})
        assert answer.status == 202, answer.data
        assert daemon.finished(job)["state"] == "cancelled"
    else:
        done = daemon.finished(job)
        assert (done["state"], done["exit_code"]) == ("succeeded", 0)
    # the GPU is free only when the last process is gone, so there is nothing to wait for
    survivors = [pid for pid in pids if not gone(pid, 0)]
    assert survivors == []
    assert alive_with_cookie({daemon.job(job)["attempts"][0]["id"]}) == {}
    assert daemon.get("/v1/gpus").json["items"][0]["job_id"] is None


def test_a_cancel_before_the_start_starts_nothing(daemon, tmp_path):
    marker = tmp_path / "ran"
    jobs = [daemon.submit("sh", "-c", f"echo x >> {marker}", hold=True) for _ in range(3)]
    for job in jobs:
        assert daemon.post(f"/v1/jobs/{job}/cancel").json["state"] == "cancelled"
        assert daemon.post(f"/v1/jobs/{job}/cancel").status == 409
    assert not marker.exists()


def test_behind_a_shell_the_signal_reaches_the_command(daemon):
    python = (
        'import signal, sys, time; signal.signal(15, lambda *_: (print("saved", flush=True), sys.exit(0)));'
        ' print("up", flush=True); time.sleep(600)'
    )
    job = daemon.submit(f"{PYTHON} -c '{python}'; echo after", shell=True)
    daemon.printed(job, "up")
    daemon.post(f"/v1/jobs/{job}/cancel", {"grace_s": 30})
    assert daemon.finished(job)["state"] == "cancelled"
    assert "saved" in daemon.output(job)


def test_a_job_may_kill_its_own_group_without_harm(daemon):
    job = daemon.submit("sh", "-c", "echo before; kill -9 0; echo never", no_retry_on=["SIGKILL"])
    done = daemon.finished(job)
    assert (done["signal"], daemon.output(job, 1)) == ("SIGKILL", "before\n")


def test_the_shim_leaves_no_descriptor_to_the_job(daemon):
    script = "import os, json; print(json.dumps(sorted(map(int, os.listdir('/proc/self/fd')))))"
    job = daemon.submit(PYTHON, "-c", script)
    daemon.finished(job)
    # the fourth is the listing's own
    assert json.loads(daemon.output(job)) == [0, 1, 2, 3]


@pytest.mark.skipif(
    not os.access("/sys/fs/cgroup/unified/cgroup.procs", os.W_OK), reason="no writable cgroup v2"
)
def test_containment_by_cgroup(tmp_path):
    root = Path(f"/sys/fs/cgroup/unified/leptond-test-{os.getpid()}")
    root.mkdir()
    one = Daemon(
        tmp_path / "state",
        "--simulate-gpus",
        "1",
        env={"LEPTOND_ENGINE__CONTAINMENT": "cgroup", "LEPTOND_ENGINE__CGROUP_ROOT": str(root)},
    )
    try:
        one.start()
        job = one.submit(PYTHON, "-c", PROLOGUE + ZOO["forks a crowd"], str(tmp_path / "pids"))
        pids_file = tmp_path / "pids"
        until(lambda: pids_file.exists() and len(pids_file.read_text().split()) == 41)
        (group,) = root.glob("leptond-*")
        assert len(group.joinpath("cgroup.procs").read_text().split()) == 41
        one.post(f"/v1/jobs/{job}/cancel", {"grace_s": 0})
        assert one.finished(job)["state"] == "cancelled"
        assert list(root.glob("leptond-*")) == []
    finally:
        one.close()
        root.rmdir()
