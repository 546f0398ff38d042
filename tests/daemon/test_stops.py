"""A stop for whatever reason reaches the program behind its wrappers, and waits for it."""

import contextlib
import sys

import pytest

from tests.support.daemon import Daemon

SAVE = """
import signal, sys, time
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
print("up", flush=True)
while not told: time.sleep(.05)
time.sleep(2.5)
print("saved", len(told), flush=True)
sys.exit(75)
"""
"""Saves for longer than what is left behind may linger."""

TWO_THREADS = """
import signal, threading, time
class Told(Exception): pass
def told(*_): raise Told
signal.signal(signal.SIGTERM, told)
signal.signal(signal.SIGCONT, lambda *_: print("continued", flush=True))
threading.Thread(target=threading.Event().wait, daemon=True).start()
print("up", flush=True)
try: time.sleep(600)
except Told: print("heard", flush=True)
"""

WARNED = """
import signal, time
signal.signal(signal.SIGUSR1, lambda *_: print("warned", flush=True))
signal.signal(signal.SIGTERM, lambda *_: exit(0))
print("up", flush=True)
while True: time.sleep(.05)
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    one = Daemon(
        tmp_path_factory.mktemp("p") / "s",
        env={
            "LEPTOND_GPUS__BACKEND": "simulated",
            "LEPTOND_GPUS__SIMULATE": "1",
            "LEPTOND_QUEUE__CPU_SLOTS": "40",
            "LEPTOND_PLANNER__CLASS_GPU_S": "0",
            "LEPTOND_PLANNER__MIN_RUN_S": "0",
            "LEPTOND_PLANNER__MIN_RUN_FACTOR": "0",
        },
    )
    one.start()
    with contextlib.closing(one):
        yield one


@pytest.fixture
def scripts(tmp_path):
    """Scripts around the program, three deep; each has a line that must not be run."""
    (tmp_path / "save.py").write_text(SAVE)
    (tmp_path / "launch.py").write_text(
        "import subprocess, sys; sys.exit(subprocess.Popen(sys.argv[1:]).wait())"
    )
    program = f"{sys.executable} {tmp_path}/save.py"
    (tmp_path / "a.sh").write_text(
        f"{sys.executable} {tmp_path}/launch.py {program}\ntouch {tmp_path}/next\n"
    )
    (tmp_path / "b.sh").write_text(f"sh {tmp_path}/a.sh\ntouch {tmp_path}/next\n")
    (tmp_path / "c.sh").write_text(f"sh {tmp_path}/b.sh | tee {tmp_path}/copy\ntouch {tmp_path}/next\n")
    return tmp_path


def test_every_kind_of_stop_waits_for_the_program(daemon, scripts):
    script = ("sh", str(scripts / "c.sh"))
    stops = {
        "cancelled": daemon.submit(*script),
        "timeout": daemon.submit(*script, time_limit_s=2),
        "hang": daemon.submit(*script, no_progress_s=2, no_retry_on=["hang"]),
        "preempted": daemon.submit(*script, gpus=1, preemptible=True, time_limit_s=3600),
    }
    daemon.printed(stops["cancelled"], "up")
    daemon.post(f"/v1/jobs/{stops['cancelled']}/cancel")
    daemon.printed(stops["preempted"], "up")
    daemon.finished(daemon.submit("true", gpus=1, time_limit_s=30))
    ended = {why: daemon.finished(job) for why, job in stops.items() if why != "preempted"}
    ended["preempted"] = daemon.job(stops["preempted"])
    daemon.post(f"/v1/jobs/{stops['preempted']}/cancel")
    for why, job in ended.items():
        first = job["attempts"][0]
        assert (why, first["class"], first["notes"]) == (why, why, [])
        assert daemon.output(job["id"], 1) == "up\nsaved 1\n"
    assert not (scripts / "next").exists()
    daemon.finished(stops["preempted"])


def test_a_stop_is_heard_by_a_program_with_a_second_thread(daemon):
    jobs = [daemon.submit(sys.executable, "-c", TWO_THREADS, grace_s=5) for _ in range(8)]
    for job in jobs:
        daemon.printed(job, "up")
    for job in jobs:
        daemon.post(f"/v1/jobs/{job}/cancel")
    for job in jobs:
        assert daemon.finished(job)["attempts"][0]["signal"] is None
        assert daemon.output(job) == "up\nheard\n"


def test_a_warning_kills_nobody(daemon, tmp_path):
    (tmp_path / "warned.py").write_text(WARNED)
    limits = {"time_limit_s": 3, "warn_signal": {"signal": "USR1", "before_s": 1.5}}
    behind = daemon.submit("sh", "-c", f"{sys.executable} {tmp_path}/warned.py; true", **limits)
    deaf = daemon.submit("sh", "-c", "sleep 2.5; echo done", **limits)
    script = "trap 'echo told; kill $P' USR1; sleep 600 & P=$!; wait $P; echo next"
    limits["warn_signal"] = {**limits["warn_signal"], "batch": True}
    batch = daemon.submit("bash", "-c", script, **limits)
    only_batch = daemon.submit("sh", "-c", f"{sys.executable} {tmp_path}/warned.py; true", **limits)
    assert daemon.finished(behind)["state"] == "timed_out"
    assert daemon.output(behind) == "up\nwarned\n"
    assert daemon.finished(deaf)["state"] == "succeeded"
    assert daemon.output(deaf) == "done\n"
    assert daemon.finished(batch)["state"] == "succeeded"
    assert daemon.output(batch) == "told\nnext\n"
    assert daemon.finished(only_batch)["state"] == "timed_out"
    assert daemon.output(only_batch) == "up\n"


def test_what_a_job_leaves_behind_is_told(daemon):
    left = "import subprocess; subprocess.Popen(['sleep', '601'], start_new_session=True)"
    deaf = "(trap '' TERM; exec sleep 601) & sleep .2"
    ended = daemon.finished(daemon.submit(sys.executable, "-c", left))
    killed = daemon.finished(daemon.submit("sh", "-c", deaf))
    assert [one["text"] for one in ended["attempts"][0]["notes"]] == ["1 process was left behind and ended"]
    assert [one["text"] for one in killed["attempts"][0]["notes"]] == [
        "1 process was left behind and killed after 2 s"
    ]
    events = daemon.get(f"/v1/events?job={killed['id']}&type=job.left_behind").json["items"]
    assert [one["data"]["text"] for one in events] == ["1 process was left behind and killed after 2 s"]
