"""What an end means: a table of cases, one line each."""

import signal

import pytest

from leptond.core.jobs.model import FailureClass
from leptond.core.outcome.classify import classify
from leptond.core.outcome.evidence import Evidence
from leptond.core.outcome.retry import Budget, Decision, unless_unkillable

CASES = [
    ("success", Evidence(exit_code=0), "ok", "exit-0"),
    ("success that talked of errors", Evidence(exit_code=0, log_tail="CUDA out of memory"), "ok", "exit-0"),
    ("our cancel", Evidence(stop_reason="cancel", signal=15), "cancelled", "we-cancelled"),
    ("our cancel, left with 0", Evidence(stop_reason="cancel", exit_code=0), "cancelled", "we-cancelled"),
    ("our limit, torchrun says 1", Evidence(stop_reason="timeout", exit_code=1), "timeout", "we-timed-out"),
    ("reboot", Evidence(boot_changed=True), "infra-node", "boot-changed"),
    ("shim killed", Evidence(shim_lost=True), "infra-node", "shim-lost"),
    ("gate shut", Evidence(never_started=True), "never-started", "never-started"),
    ("no such command", Evidence(exec_error="x", exec_errno=2), "config", "exec-failed"),
    ("no processes left", Evidence(exec_error="x", exec_errno=11), "infra-node", "exec-resources"),
    ("oom killer", Evidence(signal=9, oom_kills=1), "oom-host", "cgroup-oom"),
    ("argparse", Evidence(exit_code=2, run_s=0.3), "config", "exit-2-at-once"),
    ("exit 2 late", Evidence(exit_code=2, run_s=60), "user", "exit-user"),
    ("shell: not found", Evidence(exit_code=127), "config", "exit-127"),
    ("shell: not executable", Evidence(exit_code=126), "config", "exit-126"),
    ("plain failure", Evidence(exit_code=1, run_s=9), "user", "exit-user"),
    ("tempfail", Evidence(exit_code=75), "tempfail", "exit-75"),
    ("our own warning", Evidence(signal=10, warned_by=10), "timeout", "own-warning"),
    ("another signal than our warning", Evidence(signal=11, warned_by=10), "signal", "fault-signal"),
    ("segfault", Evidence(signal=signal.SIGSEGV), "signal", "fault-signal"),
    ("abort", Evidence(signal=signal.SIGABRT), "signal", "other-signal"),
    ("somebody's kill -9", Evidence(signal=signal.SIGKILL), "external-kill", "killed-by-others"),
    ("somebody's TERM", Evidence(signal=signal.SIGTERM), "external-kill", "killed-by-others"),
    (
        "cuda oom",
        Evidence(exit_code=1, log_tail="torch.OutOfMemoryError: CUDA out of memory. Tried"),
        "user-oom-gpu",
        "text-cuda-oom",
    ),
    (
        "cuda oom beside a stranger",
        Evidence(exit_code=1, log_tail="CUDA out of memory", foreign_gpu_memory=True),
        "infra-oom-gpu",
        "text-cuda-oom",
    ),
    (
        "ecc",
        Evidence(
            exit_code=1,
            log_tail="RuntimeError: CUDA error: uncorrectable ECC error encountered",
            gpu_faults=["GPU-0: ECC error"],
        ),
        "infra-gpu",
        "driver",
    ),
    (
        "nccl watchdog",
        Evidence(signal=signal.SIGABRT, log_tail="Watchdog caught collective operation timeout: WorkNCCL"),
        "hang",
        "text-nccl-hang",
    ),
    (
        "illegal access",
        Evidence(exit_code=1, log_tail="CUDA error: an illegal memory access was encountered"),
        "app-gpu",
        "text-cuda-fault",
    ),
    (
        "import error",
        Evidence(
            exit_code=1, log_tail="  File \"x.py\", line 1\nModuleNotFoundError: No module named 'nope'\n"
        ),
        "config",
        "text-import",
    ),
    (
        "the word alone is no import error",
        Evidence(exit_code=3, log_tail="ModuleNotFoundError: handled"),
        "user",
        "exit-user",
    ),
    (
        "torchrun's record beats the exit code",
        Evidence(exit_code=1, error_file='{"message": "CUDA out of memory"}'),
        "user-oom-gpu",
        "error-file:text-cuda-oom",
    ),
    ("nothing known", Evidence(), "infra-node", "no-record"),
]


@pytest.mark.parametrize(
    ("seen", "cause", "rule"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_class_and_rule(seen, cause, rule):
    verdict = classify(seen)
    assert (verdict.cause, verdict.rule) == (FailureClass(cause), rule)
    assert verdict.explanation


def test_the_evidence_holds_the_line_that_was_seen():
    verdict = classify(Evidence(exit_code=1, log_tail="a\nthe line: CUDA out of memory here\n"))
    assert verdict.evidence[0] == "the line: CUDA out of memory here"


def test_what_cannot_be_killed_is_said_and_never_doubled():
    verdict = classify(Evidence(stop_reason="timeout", signal=9, unkillable=2))
    assert verdict.cause is FailureClass.TIMEOUT
    assert verdict.evidence[-1] == "2 unkillable processes left after SIGKILL"
    assert "its GPUs are drained" in verdict.explanation
    again = Decision(again=True, why="user retry 1 of 3", budget=Budget.USER)
    assert unless_unkillable(again, 0) == again
    held = unless_unkillable(again, 1)
    assert (held.again, held.hold) == (True, True)
    never = Decision(again=False, why="it was cancelled")
    assert unless_unkillable(never, 1) == never
