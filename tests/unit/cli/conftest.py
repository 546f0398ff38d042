"""leptonctl as a function, and a stand-in for the daemon."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from leptond.cli import main
from tests.unit.cli.stub import Stub


@dataclass
class Result:
    """How a call ended."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[list[str]]:
        """The cells of tab-separated output."""
        return [line.split("\t") for line in self.out.splitlines()]


Cli = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, with nothing of the tester's environment in it."""
    for name in ("LEPTOND_HOST", "LEPTOND_TOKEN", "NO_COLOR", "FORCE_COLOR", "VIRTUAL_ENV", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("CONDA_DEFAULT_ENV", raising=False)
    for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return tmp_path


@pytest.fixture
def stub(home: Path) -> Iterator[Stub]:
    """The stand-in, where leptonctl finds it by itself."""
    one = Stub(home / "XDG_RUNTIME_DIR/leptond/leptond.sock")
    yield one
    one.close()


@pytest.fixture
def cli(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """`cli("queue", "--json")` is `leptonctl queue --json`, in a pipe."""

    def call(*words: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["leptonctl", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        code = end.value.code
        return Result(code=code if isinstance(code, int) else 0 if code is None else 1, out=out, err=err)

    return call
