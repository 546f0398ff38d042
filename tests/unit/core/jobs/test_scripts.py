"""Scripts, the files that commands name, and words that a shell has to read."""

from __future__ import annotations

import doctest
import posixpath
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptond.core.jobs import scripts

words = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1)


def test_the_examples() -> None:
    assert doctest.testmod(scripts).failed == 0


@pytest.mark.parametrize(
    ("first", "found"),
    [
        (b"#!/bin/bash\n", ["/bin/bash"]),
        (b"#! /bin/sh -eu \necho", ["/bin/sh", "-eu"]),
        (b"#!/usr/bin/env bash", ["/usr/bin/env", "bash"]),
        (b"#!\necho", ["/bin/sh"]),
        (b"", ["/bin/sh"]),
        (b"\n#!/bin/bash", ["/bin/sh"]),
    ],
)
def test_the_interpreter_is_that_of_the_first_line(first: bytes, found: list[str]) -> None:
    assert scripts.interpreter(first) == found


@given(st.binary())
def test_each_script_has_an_interpreter(content: bytes) -> None:
    assert scripts.interpreter(content)


@pytest.mark.parametrize(
    "line", ["/bin/sh", "/bin/bash -e", "/usr/bin/env zsh", "/usr/bin/env -S A=b ksh93 -x"]
)
def test_shells(line: str) -> None:
    assert scripts.is_shell(scripts.interpreter(f"#!{line}\n".encode()))


@pytest.mark.parametrize(
    "line", ["/usr/bin/python3", "/usr/bin/env python", "/usr/bin/env", "/usr/bin/perl -w"]
)
def test_other_interpreters(line: str) -> None:
    assert not scripts.is_shell(scripts.interpreter(f"#!{line}\n".encode()))


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["/usr/bin/sh", "r.sh"], ["/w/r.sh"]),
        (["/usr/bin/sh", "-e", "r"], ["/w/r"]),
        (["/w/bin/train", "--lr", "3"], ["/w/bin/train"]),
        (["./train", "cfg.yaml"], ["/w/train"]),
        (["/v/bin/python", "-u", "/x/a.py", "b.py"], ["/x/a.py", "/w/b.py"]),
        (["torchrun", "--nproc-per-node", "2", "a.py"], ["/w/a.py"]),
        (["python", "-m", "torch.distributed.run", "--nproc-per-node", "2", "a.py"],
         ["/w/torch/distributed/run.py", "/w/torch/distributed/run/__main__.py", "/w/a.py"]),
        (["true"], []),
        (["python", "-c", "print(1)"], []),
        (["/bin/sh", "-ec", "x", "-c", "cd y; python -u src/a.py"], ["/w/src/a.py"]),
        (["sh", "-c", "python sweep.py --seed $X | tee log"], ["/w/sweep.py"]),
        (["python", "a\0.py"], []),
    ],
)  # fmt: skip
def test_the_code_that_a_command_names(argv: list[str], named: list[str]) -> None:
    assert scripts.named_files(argv, shell=False, cwd="/w") == named


def test_the_code_that_a_line_for_the_shell_names() -> None:
    line = "cd x && FOO=1 python train.py --out a.txt | tee log; ./post.sh 'unclosed"
    assert scripts.named_files([line], shell=True, cwd="/w") == ["/w/train.py", "/w/post.sh"]
    assert scripts.named_in_script("srun python -u src/t.py $1\nsh /x/y.sh", cwd="/w") == [
        "/w/src/t.py",
        "/x/y.sh",
    ]


@given(words, st.booleans())
def test_what_is_named_is_absolute_and_bounded(argv: list[str], shell: bool) -> None:
    found = scripts.named_files(argv, shell=shell, cwd="/w")
    assert len(found) <= scripts.MAX_FILES
    assert all(posixpath.isabs(path) and "\0" not in path for path in found)
    assert scripts.named_in_script(" ".join(argv), cwd="/w") is not None


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["echo hello world"], "--shell"),
        (["FOO=1", "python", "x.py"], "-e FOO=VALUE"),
        (["FOO=1 python x.py"], "-e FOO=VALUE"),
        (["cd x && y"], "--shell"),
        (["a|b"], "--shell"),
        (["a;b"], "--shell"),
        (["cd", "x"], "-C DIR"),
        (["source", "env.sh"], "--shell"),
    ],
)
def test_what_only_a_shell_can_read(argv: list[str], word: str) -> None:
    found = scripts.misquoted(argv)
    assert found is not None
    assert argv[0] in found[0]
    assert word in found[1]


@pytest.mark.parametrize("argv", [["trian.py"], ["./a"], ["no-such", "a | b"], ["a+b=c"], ["x86_64-gcc"]])
def test_what_may_be_a_program_that_is_missing(argv: list[str]) -> None:
    assert scripts.misquoted(argv) is None


@given(st.lists(st.from_regex(r"[a-z0-9]+", fullmatch=True), min_size=2))
def test_a_quoted_line_is_known_whatever_its_words(line: list[str]) -> None:
    assert scripts.misquoted([shlex.join(line)]) is not None
