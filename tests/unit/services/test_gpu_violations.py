"""Jobs that use a GPU which they were not given."""

import pytest

from leptond.core.jobs.model import LeasedGpu
from leptond.gpus.base import Process, Sample
from leptond.services.gpu_violations import GpuViolations
from tests.unit.services.test_gpu_memory import attempt

OTHER = LeasedGpu(uuid="GPU-1", index=1, memory_bytes=None, total_bytes=None)


@pytest.fixture
def found():
    """Pids 1x belong to attempt a, 2x to b, 4x to nobody, 5x cannot be told."""
    violations = GpuViolations(lambda pid: ["a", "b", "elsewhere", "", None][pid // 10 - 1])
    violations.begin(attempt("a", job=1))
    violations.begin(attempt("b", job=2, gpus=[OTHER]))
    violations.begin(attempt("c", job=3, gpus=[], n_gpus=0))
    return violations


def look(violations, uuid, *pids, memory=512 * 1024**2, error=None):
    processes = [Process(pid=pid, memory_bytes=memory, name="python") for pid in pids]
    sample = Sample(uuid=uuid, sampled_at=1.0, processes=processes, error=error)
    violations.observe([sample], {"GPU-0": 0, "GPU-1": 1}.get)
    return violations.take()


def test_the_job_the_device_and_its_holder_are_named_once(found):
    (one,) = look(found, "GPU-1", 11, 12, 21)
    assert (one.job_id, one.number, one.uuid, one.holders) == (1, 1, "GPU-1", (2,))
    assert "process 11 (python) used GPU 1, with 512 MiB" in one.note.text
    assert "which job 2 had" in one.note.text
    assert look(found, "GPU-1", 11, 12) == []


def test_a_device_that_nobody_holds_is_not_free_to_take(found):
    (one,) = look(found, "GPU-9", 11, memory=None)
    assert "used GPU-9: the job was not given that GPU, which no job had" in one.note.text


def test_what_is_ones_own_or_nobodys_or_unknown_is_no_violation(found):
    assert look(found, "GPU-0", 11, 12) == []
    assert look(found, "GPU-1", 21, 31, 41, 51) == []
    assert look(found, "GPU-1", 11, error="no answer") == []


def test_an_attempt_that_has_ended_is_forgotten(found):
    assert len(look(found, "GPU-1", 11)) == 1
    found.end("a")
    assert look(found, "GPU-1", 11) == []
    found.begin(attempt("a", job=1))
    assert len(look(found, "GPU-1", 11)) == 1
