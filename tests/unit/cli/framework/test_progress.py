"""A progress bar: only for a person, and only where it takes long."""

import contextlib
import os
import pty
import sys
import threading

import pytest

from leptond.cli.framework import progress
from leptond.cli.framework.progress import Bar
from leptond.cli.framework.session import Session


@pytest.fixture
def terminal(monkeypatch):
    """Standard error is a terminal; `terminal()` is what it shows."""
    master, slave = pty.openpty()
    shown = b""

    def read():
        nonlocal shown
        os.set_blocking(master, False)
        try:
            while piece := os.read(master, 65536):
                shown += piece
        except BlockingIOError:
            pass
        return shown.decode()

    with os.fdopen(slave, "w") as err:
        monkeypatch.setenv("TERM", "xterm")
        # in the test itself: pytest puts its own there between the phases
        read.use = lambda: monkeypatch.setattr(sys, "stderr", err)
        yield read
    os.close(master)


def is_shown(bar):
    return bar._shown is not None


def wait_for(bar):
    bar._timer.join(30)
    assert is_shown(bar)


def test_work_that_is_soon_done_shows_nothing(terminal):
    terminal.use()
    with Bar(Session(), "copying") as bar:
        bar.add()
    assert not is_shown(bar)
    assert terminal() == ""


def test_long_work_shows_how_far_it_is_and_is_wiped_away(terminal, monkeypatch):
    terminal.use()
    monkeypatch.setattr(progress, "DELAY_S", 0.0)
    with Bar(Session(), "copying", total=lambda: 5) as bar:
        bar.add(2)
        wait_for(bar)
        bar.add()
        bar._shown.refresh()
    shown = terminal()
    assert "copying" in shown
    assert "3/5" in shown
    assert shown.rstrip().endswith("\x1b[2K"), "the line is empty again"


def test_what_was_done_before_it_is_shown_counts(terminal, monkeypatch):
    terminal.use()
    monkeypatch.setattr(progress, "DELAY_S", 0.05)
    with Bar(Session(), "copying", total=5) as bar:
        bar.add(4)
        wait_for(bar)
    assert "4/5" in terminal()


def test_without_a_person_nothing_is_asked_or_started(monkeypatch, capsys):
    def total():
        raise AssertionError("it costs a request")

    before = threading.active_count()
    with Bar(Session(), "copying", total=total) as bar:
        bar.add()
        assert threading.active_count() == before
    assert capsys.readouterr().err == ""


def test_verbose_output_is_not_mixed_with_a_bar(terminal, monkeypatch):
    terminal.use()
    monkeypatch.setattr(progress, "DELAY_S", 0.0)
    session = Session()
    session.verbose = True
    with Bar(session, "copying") as bar:
        pass
    assert not is_shown(bar)


def test_a_failure_ends_the_bar(terminal, monkeypatch):
    terminal.use()
    monkeypatch.setattr(progress, "DELAY_S", 0.0)
    bar = Bar(Session(), "copying")
    with contextlib.suppress(OSError), bar:
        wait_for(bar)
        raise OSError("full")
    assert not bar._shown.live.is_started
