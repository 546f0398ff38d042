"""A call is read twice in the program: at once where it is spelled plainly, and by click. Both must read the
same, and say the same."""

from __future__ import annotations

import contextlib
import functools
import io
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptond import cli as package
from leptond.base.usage import UsageError
from leptond.cli import MODULES, load
from leptond.cli.framework.click_bridge import as_click
from leptond.cli.framework.declare import SHARED, Command, Option, parse
from leptond.cli.framework.session import Session
from tests.unit.cli.conftest import Cli
from tests.unit.cli.stub import Stub, ended, make_status, page, submitted

DECLARED = {name: command for name in MODULES if isinstance(command := load(name), Command)}

VALUES = [
    "",
    "1",
    "0",
    "-1",
    "47",
    "47_3",
    "x",
    "2h",
    "45",
    "20G",
    "USR1@60",
    "now+2h",
    "a,b",
    "-",
    "--",
    "K=V",
    "@last",
]


def test_the_daily_commands_are_declared():
    assert set(DECLARED) >= {
        "submit", "run", "wait", "status", "queue", "history", "show", "why", "logs", "gpus", "cancel",
    }  # fmt: skip


@functools.cache
def words_for(name: str) -> st.SearchStrategy[list[list[str]]]:
    """Words for a command: most of its own, some that are not."""
    options = [*DECLARED[name].options, *SHARED]
    value = st.sampled_from(VALUES)

    def spelled(one: Option) -> st.SearchStrategy[list[str]]:
        names = st.sampled_from([*one.names, *one.no_names])
        if one.is_flag:
            return st.builds(lambda name: [name], names)
        return st.one_of(
            st.builds(lambda name, value: [name, value], names, value),
            st.builds(lambda name, value: [f"{name}={value}"], names, value),
            st.builds(lambda name, value: [f"{name}{value}"], names, value),
            st.builds(lambda name: [name], names),
        )

    word = st.one_of(
        st.one_of([spelled(one) for one in options]),
        value.map(lambda value: [value]),
        st.sampled_from([["--help"], ["-h"], ["--nonsense"], ["-qf"], ["--js"]]),
    )
    return st.lists(word, max_size=6)


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A command and words for it."""
    name = draw(st.sampled_from(sorted(DECLARED)))
    return name, [part for parts in draw(words_for(name)) for part in parts]


@functools.cache
def clicked(name: str) -> click.Command:
    """A command as click reads it."""
    return as_click(DECLARED[name])


def by_click(command: Command, words: list[str]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """What click makes of the same words; None for a mistake or a question for help."""
    session = Session()
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            context = clicked(command.name).make_context(command.name, list(words), obj=session)
        except (click.ClickException, click.exceptions.Exit):
            return None
    return dict(context.params), {one.dest: getattr(session, one.dest) for one in SHARED}


@given(call=calls())
def test_what_is_read_at_once_is_what_click_reads(tmp_path_factory, call):
    name, words = call
    command = DECLARED[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.getbasetemp())
        try:
            read = parse(command, words)
        except UsageError:
            read = None
        if read is None:
            return
        values, shared = read
        asked = by_click(command, words)
    assert asked is not None, words
    # a begin time is counted from now
    soon = {"begin_at", "since"}
    assert {key: value for key, value in values.items() if key not in soon} == {
        key: value for key, value in asked[0].items() if key not in soon
    }
    assert {key: value or None for key, value in shared.items()} == {
        key: value or None for key, value in asked[1].items()
    }


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["--json", "status"],
        ["status", "--json"],
        ["queue", "--state", "running", "-n", "2"],
        ["show", "47"],
        ["show", "nobody"],
        ["show"],
        ["show", "47", "48"],
        ["submit", "-g", "1", "--label", "a=b", "-e", "A=1", "--hold", "true", "-x"],
        ["submit", "--label", "no", "--", "true"],
        ["submit", "-e", "NOT_SET_HERE", "true"],
        ["submit", "--shell", "a", "b"],
        ["submit", "--gpus", "two", "true"],
        ["submit", "job.sh"],
        ["submit", "bad.sh"],
        ["run", "--array", "0-3", "true"],
        ["wait", "47"],
        ["wait", "48"],
        ["cancel"],
        ["edit", "47"],
        ["logs", "-n", "-1", "47"],
        ["--host", "nonsense", "status"],
        ["--host", "unix:///nowhere", "status"],
    ],
)
def test_both_ways_do_and_say_the_same(cli: Cli, stub: Stub, home, monkeypatch, words):
    (home / "work/job.sh").write_text("#!/bin/sh\n#LEPTON --gpus 2 --time 4h\ntrue\n")
    (home / "work/bad.sh").write_text("#!/bin/sh\n#SBATCH --nodes 2\ntrue\n")
    stub.on("GET", "/v1/status", make_status())
    stub.on("GET", "/v1/jobs", page())
    stub.on("POST", "/v1/jobs", submitted())
    stub.job(id=47)
    stub.on("GET", "/v1/jobs/47", ended("succeeded", exit_code=0))
    stub.on("GET", "/v1/jobs/48", ended("failed", id=48, exit_code=3))
    at_once = cli(*words)
    asked = [(one.method, one.path, one.query, one.body) for one in stub.asked]
    stub.asked.clear()
    monkeypatch.setattr(package, "_at_once", lambda words: None)
    assert cli(*words) == at_once
    assert [(one.method, one.path, one.query, one.body) for one in stub.asked] == asked


def test_a_mistake_that_is_found_late_names_the_command(cli: Cli, stub: Stub):
    result = cli("submit", "--label", "no", "--", "true")
    assert result.code == 2
    usage, hint, _, error = result.err.splitlines()
    assert usage == "Usage: leptonctl submit [OPTIONS] COMMAND..."
    assert hint.startswith("Try 'leptonctl submit -")
    assert error == "Error: Invalid value for --label: 'no' is not K=V"
    assert stub.asked == []
