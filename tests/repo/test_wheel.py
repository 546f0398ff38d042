"""The wheel has everything that the program needs at run time, and works from where pip puts it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(out), str(TOP)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    if "hatchling" in done.stderr and done.returncode:
        pytest.skip("pip cannot get hatchling")
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("leptond-*.whl")
    return built


def test_it_has_every_file_of_the_program(wheel: Path) -> None:
    tracked = subprocess.run(
        ["git", "-C", str(TOP), "ls-files", "leptond", "migrations", "systemd", "docs/man"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    assert tracked, "git lists the files of the checkout"
    names = {path.partition(".data/data/")[2] or path for path in zipfile.ZipFile(wheel).namelist()}
    places = {"migrations/": "leptond/_data/migrations/", "systemd/": "leptond/_data/systemd/"}
    places["docs/man/"] = "share/man/man1/"
    for source, place in places.items():
        tracked = [place + path.removeprefix(source) if path.startswith(source) else path for path in tracked]
    assert not set(tracked) - names


def test_commands_find_what_comes_with_it(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(tmp_path / "site")

    def run(*words: str) -> str:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "PYTHONPATH": str(tmp_path / "site"),
        }
        command = [sys.executable, "-P", "-m", *words]
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "alert: " in run("leptond.cli", "monitoring", "alerts")
    assert '"panels"' in run("leptond.cli", "monitoring", "dashboard")
    assert "applied 0001_queue.sql" in run("leptond", "migrate")
