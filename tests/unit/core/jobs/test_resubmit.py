"""The command line that submits a job again, read back by the command itself."""

from __future__ import annotations

import doctest
import shlex
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from leptond.cli.commands import submit
from leptond.cli.framework.declare import parse
from leptond.cli.framework.session import Session
from leptond.core.jobs import resubmit
from leptond.core.jobs.field import Kind
from leptond.core.jobs.fields import OPTIONS
from leptond.core.jobs.model import JobSpec

# control characters need a shell that knows $'...': see tests/unit/cli/commands/test_submit.py
TEXT = st.text(st.characters(max_codepoint=0x2FF, exclude_categories=["Cc"]), min_size=1, max_size=8)
NAME = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,8}", fullmatch=True)
WORD = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}", fullmatch=True)
SECONDS = st.floats(0.001, 86400).map(lambda one: round(one, 3))
OF_KIND: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.TEXT: WORD,
    Kind.COUNT: st.integers(0, 100),
    Kind.FLAG: st.booleans(),
    Kind.OFF: st.booleans(),
    Kind.SWITCH: st.just(False),
    Kind.LIMIT: SECONDS,
    Kind.SECONDS: SECONDS,
    Kind.SIZE: st.integers(1 << 20, 1 << 40),
    Kind.INSTANT: st.just("2030-12-24T18:00:00Z"),
    Kind.PATH: NAME.map(lambda one: f"/nowhere/{one}"),
    Kind.SIGNAL: st.fixed_dictionaries(
        {"signal": st.just("USR1"), "before_s": SECONDS}, optional={"batch": st.just(True)}
    ),
    Kind.PAIRS: st.dictionaries(NAME, TEXT, max_size=2),
    Kind.VARIABLES: st.dictionaries(st.from_regex(r"[A-Z_]{1,5}", fullmatch=True), TEXT, max_size=2),
    Kind.SCALARS: st.dictionaries(
        st.from_regex(r"[a-z_]{1,5}", fullmatch=True), st.integers(-9, 9) | st.just("adamw"), max_size=2
    ),
}
OF_FIELD: dict[str, st.SearchStrategy[Any]] = {
    "array": st.just("0-9%4"),
    "shell": st.just(False),
    "after": st.just(["12_3", "13_*"]),
    "after_any": st.just(["14_1"]),
    "after_fail": st.just([]),
    "retry_on": st.just(["75", "SIGSEGV"]),
    "no_retry_on": st.just(["timeout"]),
    "open_mode": st.sampled_from(["append", "truncate"]),
    "track": st.just(["wandb", "tensorboard"]),
    "cuda_devices": st.just("index"),
    "cpus": st.integers(1, 100),
    "no_progress_s": st.integers(1, 86400).map(float),
}
SPECS = st.fixed_dictionaries(
    {
        "argv": st.lists(TEXT, max_size=2).map(lambda more: ["/nowhere/program", *more]),
        "cwd": st.just("/nowhere"),
    },
    optional={
        field.name: OF_FIELD[field.name] if field.name in OF_FIELD else OF_KIND[field.kind]
        for field, _ in OPTIONS
        if field.name != "cwd"
    },
)


class Silent(Session):
    def say(self, message: str) -> None:
        pass


def read_back(line: str) -> JobSpec:
    """The spec that a shell would submit by a line of ours."""
    program, verb, *words = shlex.split(line)
    assert (program, verb) == ("leptonctl", "submit")
    found = parse(submit.submit_command, words)
    assert found is not None, "read at once, without click"
    values = {
        name: one for name, one in found[0].items() if name not in ("parsable", "dry_run", "wait_for_it")
    }
    return msgspec.convert(submit.job_spec(Silent(), values), JobSpec)


@given(SPECS)
def test_the_line_makes_the_same_spec_again(asked: dict[str, Any]) -> None:
    """Every field that has an option, in every combination."""
    if asked.get("queue") == "default":
        del asked["queue"]
    if not asked.get("gpus") and any(
        asked.get(name) for name in ("gpu_type", "gpu_memory_bytes", "exclusive")
    ):
        asked["gpus"] = 1
    spec = msgspec.convert({"name": "job", **asked}, JobSpec)
    assert read_back(resubmit.line(msgspec.to_builtins(spec), name="job")) == spec


def test_a_member_of_an_array_comes_back_alone() -> None:
    spec = {"argv": ["/x"], "cwd": "/"}
    assert read_back(resubmit.line(spec, name="x", array_index=3)).array == "3"
    assert read_back(resubmit.line(spec, name="x", array_index=0)).array == "0"


def test_a_name_that_was_made_is_given_again() -> None:
    assert read_back(resubmit.line({"argv": ["/x"], "cwd": "/"}, name="made")).name == "made"


def test_a_shell_command_is_one_word() -> None:
    spec = read_back(resubmit.line({"argv": ["echo 'a' | wc"], "shell": True, "cwd": "/"}, name="x"))
    assert (spec.argv, spec.shell) == (["echo 'a' | wc"], True)


def test_the_examples_hold() -> None:
    assert doctest.testmod(resubmit).failed == 0
