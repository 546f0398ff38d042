"""`--nproc` and ``nproc=``: a Python command as several ranks."""

from __future__ import annotations

import pytest

from leptond.base.usage import UsageError
from leptond.client.torchrun import MAX_RANKS, count, is_python, under_torchrun

RUN = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "0"]


@pytest.mark.parametrize(("text", "gpus", "ranks"), [("auto", 4, 4), ("1", 0, 1), ("12", 2, 12)])
def test_the_number_of_ranks(text: str, gpus: int, ranks: int) -> None:
    assert count(text, gpus) == ranks


@pytest.mark.parametrize("text", ["auto", "0", "-1", "two", "1.5", "", str(MAX_RANKS + 1)])
def test_a_number_that_cannot_be(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        count(text, 0)
    assert caught.value.option == "--nproc"


@pytest.mark.parametrize(
    ("words", "rest"),
    [
        (["python", "train.py", "--lr", "1"], ["train.py", "--lr", "1"]),
        (["/opt/env/bin/python3.11", "-u", "-u", "train.py"], ["train.py"]),
        (["python3", "-m", "pkg.train", "-x"], ["-m", "pkg.train", "-x"]),
    ],
)
def test_a_python_command_runs_under_torchrun(words: list[str], rest: list[str]) -> None:
    assert under_torchrun(words, 2) == [words[0], *RUN, *rest]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bash", "train.sh"], "starts a Python script"),
        (["python"], "cannot pass nothing"),
        (["python", "-c", "pass"], "the option -c"),
    ],
)
def test_what_torchrun_cannot_start(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        under_torchrun(words, 2)


def test_an_interpreter_is_known_by_its_name() -> None:
    assert is_python("/usr/bin/python3.12")
    assert is_python("python")
    assert not is_python("/usr/bin/pypy3")
    assert not is_python("/python/bin/node")
