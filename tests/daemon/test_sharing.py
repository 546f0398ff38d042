"""Queues, caps, topology and shared GPUs on a real daemon with simulated devices."""

import json
import sys

import pytest

from tests.support.daemon import Daemon, until

PYTHON = sys.executable
GIB = 1024**3
HOLD = (PYTHON, "-c", "import time; print('on', flush=True); time.sleep(600)")


@pytest.fixture
def sharing(tmp_path):
    """Four GPUs of 24 GiB in two NVLink pairs, which jobs may share; their state is in a file."""
    state = tmp_path / "devices.json"
    one = Daemon(
        tmp_path / "state",
        "--simulate-gpus",
        "4",
        env={
            "LEPTOND_QUEUE__CPU_SLOTS": "2",
            "LEPTOND_GPUS__SHARING": "true",
            "LEPTOND_GPUS__SIMULATE_TOPOLOGY": "pairs",
            "LEPTOND_GPUS__SAMPLE_S": "0.2",
            "LEPTOND_GPUS__STATE_FILE": str(state),
            "LEPTOND_SHARES__USER_MAX_GPUS": "0",
        },
    )
    one.start()
    yield one, state
    one.close()


def indices(job):
    return [gpu["index"] for gpu in job["attempts"][-1]["gpus"]]


def test_shares_are_packed_by_memory_and_survive_a_restart(sharing):
    daemon, _ = sharing
    shares = [daemon.submit(*HOLD, gpus=1, gpu_memory_bytes=10 * GIB) for _ in range(2)]
    held = [daemon.reached(job, "running") for job in shares]
    assert [indices(job) for job in held] == [[0], [0]], "two of 10 GiB on one GPU of 24"
    third = daemon.submit(*HOLD, gpus=1, gpu_memory_bytes=10 * GIB)
    whole = daemon.submit(*HOLD, gpus=2)
    assert indices(daemon.reached(third, "running")) == [1], "the pair that is broken already"
    assert indices(daemon.reached(whole, "running")) == [2, 3], "an NVLink pair"
    waits = daemon.submit("true", gpus=1)
    why = daemon.get(f"/v1/jobs/{waits}/why").json
    assert why["reason"] == "Resources"
    assert "0 free" in why["sentence"]
    small = daemon.submit("sh", "-c", "env | grep LEPTOND_GPU_MEM", gpus=1, gpu_memory_bytes=4 * GIB)
    done = daemon.finished(small)
    assert indices(done) == [0], "where the least is left beside it"
    assert daemon.output(small).split() == [
        f"LEPTOND_GPU_MEMORY_BYTES={4 * GIB}",
        f"LEPTOND_GPU_MEMORY_FRACTION={4 / 24:.6f}",
    ]
    assert done["gpu_seconds"] == pytest.approx(done["attempts"][0]["gpu_seconds"])
    daemon.kill()
    daemon.start()
    first, *_ = daemon.get("/v1/gpus").json["items"]
    assert [(one["id"], one["memory_bytes"]) for one in first["jobs"]] == [(job, 10 * GIB) for job in shares]
    for job in (*shares, third):
        daemon.post(f"/v1/jobs/{job}/cancel", {"grace_s": 0})
        assert daemon.finished(job)["state"] == "cancelled"
    assert daemon.finished(waits)["state"] == "succeeded"


def test_out_of_memory_beside_a_neighbour_that_overran_is_the_machines_fault(sharing):
    daemon, state = sharing
    oom = "import sys; sys.stdin; print('CUDA out of memory', flush=True); sys.exit(1)"
    wait = "import os, time\nwhile not os.path.exists('{}'): time.sleep(0.02)\n"
    go = state.with_name("go")
    greedy = daemon.submit(*HOLD, gpus=1, gpu_memory_bytes=10 * GIB)
    ooms = wait.format(go) + oom
    victim = daemon.submit(PYTHON, "-c", ooms, gpus=1, gpu_memory_bytes=10 * GIB, retry_delay_s=0.1)
    for job in (greedy, victim):
        daemon.reached(job, "running")
    pids = [daemon.pid(job) for job in (greedy, victim)]
    sizes = [14 * GIB, 9 * GIB]
    processes = [{"pid": pid, "memory_bytes": size} for pid, size in zip(pids, sizes, strict=True)]
    state.write_text(json.dumps({"devices": {"0": {"memory_used_bytes": 23 * GIB, "processes": processes}}}))
    until(lambda: daemon.get("/v1/gpus").json["items"][0]["memory_used_bytes"] == 23 * GIB)
    go.touch()
    ended = until(lambda: [a for a in daemon.job(victim)["attempts"] if a["class"]])
    assert ended[0]["class"] == "infra-oom-gpu"
    assert any(f"job {greedy} had" in line for line in ended[0]["evidence"])
    again = until(lambda: [a for a in daemon.job(victim)["attempts"] if a["number"] == 2 and a["gpus"]])
    assert again[0]["gpus"][0]["index"] != 0, "on another GPU"


def test_a_cap_names_itself_and_who_fills_it_and_is_raised_while_running(sharing):
    daemon, _ = sharing
    job = daemon.submit(*HOLD, gpus=2)
    user = daemon.reached(job, "running")["user"]
    daemon.request("PUT", f"/v1/limits/user/{user}", {"max_gpus": 2})
    more = daemon.submit("true", gpus=1)
    why = until(lambda: (w := daemon.get(f"/v1/jobs/{more}/why").json)["reason"] == "UserLimit" and w)
    assert f"user {user} may hold 2 GPUs at a time and holds 2 (job {job})" in why["sentence"]
    assert daemon.job(more)["state"] == "pending"
    daemon.request("PUT", f"/v1/limits/user/{user}", {"max_gpus": 3})
    assert daemon.finished(more)["state"] == "succeeded"


def test_a_queue_keeps_its_gpus_lends_them_and_has_them_back(sharing):
    daemon, _ = sharing
    for body in (
        {"name": "own", "gpus": ["0", "1", "2"]},
        {"name": "loan", "borrow": True},
    ):
        assert daemon.post("/v1/queues", body).status == 201
    plain = daemon.submit(*HOLD, gpus=1)
    assert indices(daemon.reached(plain, "running")) == [3], "the one that is everybody's"
    waits = daemon.submit("true", gpus=1)
    why = daemon.get(f"/v1/jobs/{waits}/why").json
    assert "own" in why["sentence"], why
    borrower = daemon.submit(*HOLD, gpus=3, queue="loan")
    assert indices(daemon.reached(borrower, "running")) == [0, 1, 2]
    owner = daemon.submit(*HOLD, gpus=2, queue="own")
    again = daemon.submit("true", gpus=1, queue="loan")
    assert str(borrower) in daemon.get(f"/v1/jobs/{owner}/why").json["waits_for"]
    daemon.post(f"/v1/jobs/{borrower}/cancel", {"grace_s": 0})
    assert indices(daemon.reached(owner, "running")) == [0, 1], "its owner comes first"
    assert daemon.finished(again)["state"] == "succeeded"
    assert indices(daemon.job(again)) == [2], "and what it does not need is lent again"
    assert daemon.job(waits)["state"] == "pending"
    assert daemon.request("PATCH", "/v1/queues/own", {"gpus": []}).status == 200
    assert daemon.finished(waits)["state"] == "succeeded"


def test_a_borrower_that_can_resume_makes_room_at_once(sharing):
    daemon, _ = sharing
    assert daemon.post("/v1/queues", {"name": "own", "gpus": ["0", "1"]}).status == 201
    assert daemon.post("/v1/queues", {"name": "loan", "borrow": True}).status == 201
    held = daemon.submit(*HOLD, gpus=2)
    assert indices(daemon.reached(held, "running")) == [2, 3]
    borrower = daemon.submit(*HOLD, gpus=2, queue="loan", preemptible=True, grace_s=5)
    assert indices(daemon.reached(borrower, "running")) == [0, 1]
    owner = daemon.submit(*HOLD, gpus=1, queue="own")
    daemon.reached(owner, "running")
    (back, *_) = daemon.job(borrower)["attempts"]
    assert back["class"] == "preempted"
    assert daemon.job(borrower)["state"] == "pending"
    daemon.post(f"/v1/jobs/{owner}/cancel", {"grace_s": 0})
    assert indices(daemon.reached(borrower, "running")) == [0, 1], "lent again"


def test_a_job_runs_on_the_cpus_near_its_gpus(sharing):
    daemon, _ = sharing
    show = "import os; print(sorted(os.sched_getaffinity(0)))"
    job = daemon.submit(PYTHON, "-c", show, gpus=1)
    assert daemon.finished(job)["state"] == "succeeded"
    near = daemon.get("/v1/gpus").json["items"][indices(daemon.job(job))[0]]["cpus"]
    assert json.loads(daemon.output(job)) == sorted(int(cpu) for cpu in near.split(","))
    shown = daemon.submit(PYTHON, "-c", show)
    daemon.finished(shown)
    assert len(json.loads(daemon.output(shown))) >= len(json.loads(daemon.output(job)))


def test_a_job_on_a_gpu_that_it_was_not_given_is_named(sharing):
    """The process is the job's own; what the driver says of it is the file's."""
    daemon, state = sharing
    has, other = (daemon.submit(*HOLD, gpus=1, name=name) for name in ("has", "other"))
    for job in (has, other):
        daemon.printed(job, "on")
    pid = daemon.pid(other)
    [mine] = indices(daemon.job(has))
    process = {"pid": pid, "memory_bytes": 512 * 1024**2, "name": "python"}
    state.write_text(json.dumps({"devices": {str(mine): {"processes": [process]}}}))
    found = until(lambda: daemon.get(f"/v1/events?job={other}&type=job.gpu_not_given").json["items"], "event")
    assert f"process {pid} (python) used GPU {mine}, with 512 MiB" in found[0]["data"]["text"]
    notes = daemon.job(other)["attempts"][-1]["notes"]
    assert [note["kind"] for note in notes] == ["gpu-not-given"]
    assert f"which job {has} had" in notes[0]["text"]
    assert daemon.job(has)["attempts"][-1]["notes"] == []
