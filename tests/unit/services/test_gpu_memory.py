"""Whose memory it was: samples, shares and the class of an out-of-memory death."""

import os
import subprocess
import sys

import pytest

from leptond.core.jobs.model import Attempt, ExitRecord, FailureClass, LeasedGpu
from leptond.core.jobs.states import AttemptState
from leptond.core.outcome.classify import classify
from leptond.core.outcome.evidence import End, Evidence
from leptond.engines.procs import COOKIE, attempt_of
from leptond.gpus.base import Process, Sample
from leptond.services.gpu_memory import GpuMemory

MIB = 1024**2
OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n"


def attempt(name, *, share=1000, job=1, uuid="GPU-0", **more):
    gpu = LeasedGpu(uuid=uuid, index=0, memory_bytes=share and share * MIB, total_bytes=share and 4000 * MIB)
    nothing = dict.fromkeys(Attempt.__struct_fields__)
    known = {"id": name, "job_id": job, "number": 1, "gpus": [gpu], "n_gpus": 1}
    known["state"] = AttemptState.RUNNING
    return Attempt(
        **{**nothing, **known, "evidence": [], "claimed_at": 0.0, "claimed_boot": 0.0, "boot_id": "b", **more}
    )


def look(memory, *processes, at=100.0, uuid="GPU-0"):
    found = [Process(pid=pid, memory_bytes=size and size * MIB, name="python") for pid, size in processes]
    memory.observe([Sample(uuid=uuid, sampled_at=at, processes=found)])


@pytest.fixture
def memory():
    """Pids 1x belong to attempt a, 2x to b, 3x to an attempt of others, 4x to nobody, 5x cannot be told."""
    return GpuMemory(lambda pid: ["a", "b", "elsewhere", "", None][pid // 10 - 1])


def died(memory, name="a", now=100.0, **more):
    one = attempt(name, **more)
    record = ExitRecord(attempt_id=name, boot_id="b", exit_code=1)
    return classify(Evidence.of(one, End(record=record, log_tail=OOM), memory.of(name, now)))


def test_a_neighbour_beyond_its_share_is_the_machines_fault(memory):
    memory.begin(attempt("a", job=1))
    memory.begin(attempt("b", job=2))
    look(memory, (10, 400), (11, 500), (20, 1500))
    verdict = died(memory)
    assert verdict.cause is FailureClass.INFRA_OOM_GPU
    assert verdict.evidence[2:] == [
        "it had 900 MiB of its share of 1000 MiB on GPU 0",
        "job 2 had 1500 MiB of a share of 1000 MiB on GPU 0",
    ]
    assert died(memory, "b").cause is FailureClass.USER_OOM_GPU


def test_who_overran_its_own_share_is_to_blame_whatever_others_did(memory):
    memory.begin(attempt("a"))
    memory.begin(attempt("b", job=2))
    look(memory, (10, 1001), (20, 1500))
    look(memory, (10, 10), (20, 1500))
    verdict = died(memory)
    assert verdict.cause is FailureClass.USER_OOM_GPU
    assert "more GPU memory than the share" in verdict.explanation


@pytest.mark.parametrize(
    ("processes", "cause"),
    [
        ([(20, 1000)], FailureClass.USER_OOM_GPU),  # within its share
        ([(30, 300)], FailureClass.INFRA_OOM_GPU),  # of another leptond
        ([(40, 300)], FailureClass.INFRA_OOM_GPU),  # nobody's
        ([(40, 200)], FailureClass.USER_OOM_GPU),  # a monitor
        ([(50, 9000)], FailureClass.USER_OOM_GPU),  # cannot be told whose
        ([(40, None)], FailureClass.USER_OOM_GPU),  # cannot be told how much
    ],
)
def test_what_others_had_counts_only_where_it_was_not_theirs(memory, processes, cause):
    memory.begin(attempt("a"))
    memory.begin(attempt("b", job=2))
    look(memory, (10, 100), *processes)
    assert died(memory).cause is cause


def test_a_whole_gpu_is_nobody_elses_either(memory):
    memory.begin(attempt("a", share=None))
    memory.begin(attempt("b", job=2, uuid="GPU-1"))
    look(memory, (10, 3000), (20, 500))  # b is on a GPU that it was not given
    verdict = died(memory, share=None)
    assert verdict.cause is FailureClass.INFRA_OOM_GPU
    assert "job 2, which was not given it, had 500 MiB" in verdict.evidence[2]


def test_old_sights_and_those_of_the_dead_do_not_count(memory):
    memory.begin(attempt("a"))
    look(memory, (40, 300), at=100.0)
    assert died(memory, now=100.0 + 121.0).cause is FailureClass.USER_OOM_GPU
    memory.end("a")
    assert died(memory).cause is FailureClass.USER_OOM_GPU


def test_a_process_is_its_attempts_also_without_the_cookie():
    """A child of a job that starts with an empty environment is still the job's."""
    inner = "import sys; print(1, flush=True); sys.stdin.read()"
    outer = (
        "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', sys.argv[1]], env={}, "
        "stdin=0, stdout=subprocess.PIPE); child.stdout.readline(); print(child.pid, flush=True); "
        "child.wait()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", outer, inner],
        env={COOKIE: "abc"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as job:
        child = int(job.stdout.readline())
        try:
            assert (attempt_of(job.pid), attempt_of(child)) == ("abc", "abc")
        finally:
            job.stdin.close()
            job.wait(60)
    assert attempt_of(os.getpid()) == ""
    assert attempt_of(2**22 + 1) is None
