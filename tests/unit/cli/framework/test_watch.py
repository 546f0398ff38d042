"""`--watch` in a pipe: picture after picture, until Ctrl-C. On a terminal: tests of people."""

from __future__ import annotations

import time

import pytest

from leptond.cli.framework import watch
from leptond.cli.framework.session import Session
from leptond.client.errors import ClientError


def test_a_pipe_gets_one_picture_after_the_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise KeyboardInterrupt

    drawn = iter(["a", ClientError({"detail": "no daemon"}, exit_code=69), "b"])

    def draw() -> None:
        one = next(drawn)
        if isinstance(one, ClientError):
            raise one
        print(one)

    monkeypatch.setattr(time, "sleep", pause)
    watch.watch(Session(), draw, 2.5)
    out, err = capsys.readouterr()
    assert out == "a\nb\n"
    assert err == "leptonctl: no daemon\n"
    assert pauses == [2.5] * 3


def test_a_picture_that_is_too_high_says_how_much_is_missing() -> None:
    shown = watch._fitted("\n".join(str(number) for number in range(100)))
    lines = shown.split("\r\n")[:-1]
    assert len(lines) < 100
    assert lines[-1].startswith(f"... and {100 - len(lines) + 1} lines more")
    assert watch._fitted("a\nb") == "a\x1b[K\r\nb\x1b[K\r\n"
