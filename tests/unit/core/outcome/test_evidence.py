"""Evidence about an end: the record, what was asked of the attempt, and whose memory was on its GPUs."""

import pytest

from leptond.core.jobs.model import Attempt, ExitRecord
from leptond.core.jobs.states import AttemptState
from leptond.core.outcome.evidence import End, Evidence, MemoryFacts, Word


def attempt(**fields):
    nothing = dict.fromkeys(Attempt.__struct_fields__)
    known = {"id": "a", "job_id": 1, "number": 1, "state": AttemptState.STOPPING, "gpus": [], "n_gpus": 0}
    return Attempt(**{**nothing, **known, "claimed_at": 0.0, "claimed_boot": 0.0, "boot_id": "b", **fields})


def record(**fields):
    return ExitRecord(attempt_id="a", boot_id="boot", **fields)


def test_the_record_is_taken_over_field_by_field():
    seen = record(exit_code=3, signal=9, run_s=5.0, oom_kills=1, unkillable=2, exec_errno=2, exec_error="no")
    end = End(record=seen, error_file="trace", word=Word(attempt_id="a", reason="limit"), log_tail="out")
    found = Evidence.of(attempt(), end)
    for name in ("exit_code", "signal", "run_s", "oom_kills", "unkillable", "exec_errno", "exec_error"):
        assert getattr(found, name) == getattr(seen, name)
    assert (found.error_file, found.word, found.log_tail) == ("trace", end.word, "out")
    assert not found.never_started


def test_without_a_record_there_is_only_the_reason_for_that():
    assert Evidence.of(attempt(), End(record=None, shim_lost=True)) == Evidence(shim_lost=True)
    assert Evidence.of(attempt(), End(record=None, boot_changed=True)) == Evidence(boot_changed=True)


def test_memory_that_others_had_is_evidence():
    memory = MemoryFacts(own_overran=True, others=["job 2 had 1 MiB"], notes=["it had 2 MiB"])
    found = Evidence.of(attempt(), End(record=record(exit_code=1)), memory)
    assert (found.own_overran, found.foreign_gpu_memory) == (True, True)
    assert list(found.memory_notes) == ["it had 2 MiB"]
    assert not Evidence.of(attempt(), End(record=record(exit_code=1))).foreign_gpu_memory


@pytest.mark.parametrize(
    ("asked", "end", "reason"),
    [
        (None, End(record=record(exit_code=0)), None),
        (None, End(record=record(exit_code=0, stop_reason="timeout")), "timeout"),
        ("cancel", End(record=record(exit_code=0)), None),  # it ended before the stop reached it
        ("cancel", End(record=record(exit_code=0, stop_reason="cancel")), "cancel"),
        ("cancel", End(record=record(never_started=True)), "cancel"),
        ("cancel", End(record=record(exec_error="no", exec_errno=2)), "cancel"),
        ("cancel", End(record=record(unkillable=1, stop_reason="timeout")), "cancel"),
        ("cancel", End(record=None, shim_lost=True), "cancel"),
        ("cancel", End(record=record(exit_code=0, stop_reason="preempt")), "cancel"),
        ("preempt", End(record=record(exit_code=0, stop_reason="preempt")), "preempt"),
        ("preempt", End(record=None, shim_lost=True), None),
        ("timeout", End(record=None, shim_lost=True), "timeout"),
        ("timeout", End(record=None, boot_changed=True), None),
        ("hang", End(record=None, shim_lost=True), "hang"),
        ("hang", End(record=record(exit_code=0)), None),
        ("timeout", End(record=record(exit_code=0)), None),
    ],
)
def test_the_stop_that_an_end_is_put_down_to(asked, end, reason):
    assert Evidence.of(attempt(stop_reason=asked), end).stop_reason == reason
