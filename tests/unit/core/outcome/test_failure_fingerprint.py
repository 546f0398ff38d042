"""The same failure is known again, and another is not taken for it."""

import json

import pytest

from leptond.core.outcome.classify import classify
from leptond.core.outcome.evidence import Evidence
from leptond.core.outcome.failure_fingerprint import normal

TRACE = """step {step}/900  loss {loss}
Traceback (most recent call last):
  File "/home/ana/train.py", line 88, in <module>
    main()
ValueError: row {row} of shard-{row} has no label (buffer at {address})
"""


def of(tail="", error_file=None):
    return classify(Evidence(exit_code=1, run_s=60, log_tail=tail, error_file=error_file)).failure_fingerprint


def test_what_differs_from_run_to_run_does_not_matter():
    one = of(TRACE.format(step=10, loss="2.31", row=17, address="0x7fab12"))
    assert one == of(TRACE.format(step=700, loss="1.02", row=90001, address="0x55"))
    assert one == "user, exit code 1: ValueError: row # of shard-# has no label (buffer at *)"


@pytest.mark.parametrize(
    ("tail", "line"),
    [
        ("hello\nerror: cannot open data\n", "error: cannot open data"),
        ("\x1b[31mRuntimeError: boom\x1b[0m\n", "RuntimeError: boom"),
        ("[rank3]: ConnectionError: peer\n", "ConnectionError: peer"),
        ("  File \"x.py\", line 2\nKeyError: 'a'\ncleaning up failed\n", "KeyError: 'a'"),
        (
            "AssertionError: x\ntorch.distributed.elastic.multiprocessing.errors.ChildFailedError:\n",
            "AssertionError: x",
        ),
        ("step 1\nstep 2\n", None),
        ("", None),
    ],
)
def test_the_line_that_tells(tail, line):
    found = of(tail)
    assert found == (None if line is None else f"user, exit code 1: {line}")


def test_what_the_framework_recorded_comes_first():
    inner = {"message": "ValueError: root cause 7", "extraInfo": {"py_callstack": "..."}}
    assert of("OtherError: later\n", json.dumps({"message": inner})).endswith("ValueError: root cause #")
    assert of("OtherError: later\n", "not json").endswith("OtherError: later")
    assert of("OtherError: later\n", '{"message": 3}').endswith("OtherError: later")


def test_it_is_bounded():
    assert len(normal("x" * 10_000)) <= 200


@pytest.mark.parametrize(
    "seen",
    [
        Evidence(exit_code=0, log_tail="ValueError: x"),
        Evidence(exit_code=1, stop_reason="cancel", log_tail="ValueError: x"),
        Evidence(exit_code=1, log_tail="nothing of note"),
    ],
)
def test_ends_without_a_fingerprint(seen):
    assert classify(seen).failure_fingerprint is None


def test_class_and_exit_are_part_of_it():
    tail = "ValueError: x"
    found = {
        classify(Evidence(exit_code=code, run_s=60, log_tail=tail)).failure_fingerprint for code in (1, 3)
    }
    found.add(classify(Evidence(signal=11, log_tail=tail)).failure_fingerprint)
    assert len(found) == 3
