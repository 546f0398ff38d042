"""Calls from odd surroundings: one sentence and an exit code, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from leptond.base import paths
from tests.unit.cli.conftest import Cli
from tests.unit.cli.stub import Stub, submitted

TOP = Path(__file__).parents[3]


def call(line: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a line of a shell in which $L is leptonctl, without a daemon."""
    return subprocess.run(
        ["/bin/sh", "-c", line],
        cwd=cwd,
        env={
            "L": f"{sys.executable} -m leptond.cli",
            "PYTHONPATH": str(TOP),
            "LEPTOND_HOST": f"unix://{cwd}/none.sock",
            **env,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("line", "code", "word"),
    [
        ("$L completion bash >&-", 0, ""),
        ("$L --help >&-", 0, ""),
        ("$L purge --dry-run >&- <&-", 69, "cannot reach leptond"),
        ("$L purge --dry-run >&- 2>&- <&-", 69, ""),
        ("$L completion bash >/dev/full", 1, "No space left on device"),
        ("$L doctor >/dev/full", 1, "No space left on device"),
        ("$L --help >/dev/full", 1, "No space left on device"),
        ("mkdir x; cd x; rmdir ../x; $L submit -- true", 2, "the directory you are in cannot be used"),
        ("mkdir x; cd x; rmdir ../x; $L status", 69, "cannot reach leptond"),
    ],
)
def test_closed_and_full_streams_and_a_directory_that_is_gone(
    tmp_path: Path, line: str, code: int, word: str
):
    done = call(line, tmp_path, HOME=str(tmp_path), PATH="/usr/bin:/bin")
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert word in done.stderr


def test_a_connection_does_not_get_the_number_of_a_closed_stream(cli: Cli, stub: Stub, tmp_path: Path):
    stub.on("POST", "/v1/jobs", submitted())
    host = f"unix://{os.environ['XDG_RUNTIME_DIR']}/leptond/leptond.sock"
    done = call("$L submit -- true >&- 2>&- <&-", tmp_path, PATH="/usr/bin:/bin", LEPTOND_HOST=host)
    assert done.returncode == 0
    assert len(stub.of("POST", "/v1/jobs")) == 1


def test_a_job_whose_number_cannot_be_written_is_named_on_standard_error(
    cli: Cli, stub: Stub, tmp_path: Path
):
    stub.on("POST", "/v1/jobs", submitted())
    host = f"unix://{os.environ['XDG_RUNTIME_DIR']}/leptond/leptond.sock"
    done = call("$L submit -q -- true >/dev/full", tmp_path, PATH="/usr/bin:/bin", LEPTOND_HOST=host)
    assert done.returncode == 1
    assert "job 47 is queued" in done.stderr


def test_without_a_home_it_is_said(cli: Cli, monkeypatch):
    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    with pytest.raises(OSError, match="no home directory is known: set HOME"):
        paths.home()
    result = cli("init", "--dry-run")
    assert result.code == 1
    assert "no home directory is known: set HOME" in result.err
