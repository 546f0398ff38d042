"""Tables in a pipe and on a terminal."""

from __future__ import annotations

import io
import sys

import pytest

from leptond.cli.framework.output import Column, plain_row, print_line, print_pairs, print_table
from leptond.cli.framework.session import Session

COLUMNS = (Column("ID", right=True), Column("STATE"), Column("WHY", fold=True))
ROWS = [[47, "failed", "exit\ncode 3"], [48, None, ""]]


class Screen(io.StringIO):
    """A standard output that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """Puts a screen in the place of standard output, for the rest of the test (pytest has it before)."""
    one = Screen()
    monkeypatch.setattr(sys, "stdout", one)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return one


def test_a_pipe_gets_tabs_and_every_column(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(Session(), COLUMNS, ROWS)
    print_table(Session(), COLUMNS, ROWS, header=False)
    assert capsys.readouterr().out == (
        "ID\tSTATE\tWHY\n47\tfailed\texit code 3\n48\t-\t-\n47\tfailed\texit code 3\n48\t-\t-\n"
    )


def test_a_terminal_gets_an_aligned_table_with_coloured_states(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    print_table(Session(), COLUMNS, ROWS, title="Jobs")
    lines = screen.getvalue().splitlines()
    assert "Jobs" in lines[0]
    assert "\x1b[31mfailed" in lines[2]


def test_without_colours_there_is_only_text(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    session = Session()
    session.no_color = True
    print_table(session, COLUMNS, ROWS)
    print_line(session, "bold?", style="bold")
    assert "\x1b" not in screen.getvalue()
    assert "failed" in screen.getvalue()


def test_pairs_leave_empty_values_out(capsys: pytest.CaptureFixture[str]) -> None:
    print_pairs(Session(), [("job", 47), ("name", ""), ("project", None), ("gpus", 0), ("run", 1.50)])
    assert capsys.readouterr().out == "job\t47\ngpus\t0\nrun\t1.5\n"


def test_pairs_are_aligned_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    print_pairs(Session(), [("job", 47), ("state", "running")])
    assert "\x1b[32mrunning" in screen.getvalue()


def test_json_is_never_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    session = Session()
    session.json = True
    assert not session.table
    print_line(session, "a\x1b[2Jb", style="bold")
    assert screen.getvalue() == "a[2Jb\n"


def test_cells() -> None:
    assert plain_row(["a", None, "", 0, 2.0, 0.125]) == "a\t-\t-\t0\t2\t0.125"
