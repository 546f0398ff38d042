"""The error lines that are known."""

import pytest

from leptond.core.jobs.model import FailureClass
from leptond.core.outcome.text_rules import GPU_LOST, TEXT_RULES, speaks_of_device

LINES = [
    ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "text-cuda-oom"),
    ("torch.cuda.OutOfMemoryError: more", "text-cuda-oom"),
    ("RuntimeError: CUDA error: out of memory", "text-cuda-oom"),
    ("[Rank 0] Watchdog caught collective operation timeout: WorkNCCL", "text-nccl-hang"),
    ("ProcessGroupNCCL's HeartbeatMonitor: heartbeat got stuck", "text-nccl-hang"),
    ("ProcessGroupNCCL heartbeat monitor is here", None),
    ("RuntimeError: CUDA error: an illegal memory access was encountered", "text-cuda-fault"),
    ("CUDA error: device-side assert triggered", "text-cuda-fault"),
    ("ModuleNotFoundError: No module named 'torch'", "text-import"),
    ("IndentationError: unexpected indent", "text-import"),
    ("/usr/bin/python3.12: No module named trainer", "text-import"),
    ("note: ModuleNotFoundError: was handled", None),
    ("ValueError: bad value", None),
    ("MemoryError", None),
]


@pytest.mark.parametrize(("line", "name"), LINES)
def test_a_line_is_known_by_one_rule(line, name):
    text = f"epoch 1\n{line}\n"
    found = [rule.name for rule in TEXT_RULES if rule.newest(text, text.lower())]
    assert found == ([name] if name else [])


@pytest.mark.parametrize("rule", [GPU_LOST, *TEXT_RULES], ids=lambda rule: rule.name)
def test_the_words_of_a_rule_are_in_lower_case(rule):
    assert rule.words
    assert all(word == word.lower() for word in rule.words), "they are looked for in lowered text"


@pytest.mark.parametrize(
    "line",
    [
        "CUDA error: uncorrectable ECC error encountered",
        "RuntimeError: No CUDA-capable device is detected",
        "Unable to determine the device handle: GPU is lost.",
        "GPU has FALLEN OFF THE BUS",
        "all CUDA-capable device(s) is/are busy or unavailable",
    ],
)
def test_a_lost_gpu_is_known_in_any_case_of_letters(line):
    assert GPU_LOST.newest(line, line.lower()) is not None
    assert speaks_of_device(line)


def test_the_newest_of_several_lines_counts():
    text = "SyntaxError: first\nSyntaxError: second\n"
    rule = next(rule for rule in TEXT_RULES if rule.cause is FailureClass.CONFIG)
    found = rule.newest(text, text.lower())
    assert found is not None
    assert found[0] == "SyntaxError: second"


def test_only_the_end_of_an_output_speaks_of_a_device():
    assert speaks_of_device("x" * 9000 + " NCCL error")
    assert not speaks_of_device("NCCL error " + "x" * 9000)
    assert not speaks_of_device("ValueError: bad value")
