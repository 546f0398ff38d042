"""The README is followed word by word by somebody who has just got a checkout: in an empty home directory,
with an active environment of their own that is not leptond's. No line fails.

What is replaced in the default run, and why: `python3 -m venv DIR` makes the environment without pip, and its
`pip` is a stand-in that writes the two programs as pip does and lets the environment see this checkout and
the libraries of the tests (a real installation takes half a minute and a network). The slow test replaces
nothing. GPUs are simulated, and train.py is a script without torch. Not run here: `systemctl` and `loginctl`,
which need a running systemd."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import PATIENCE_S

TOP = Path(__file__).parents[2]
BASE_PYTHON = getattr(sys, "_base_executable", sys.executable)
README = (TOP / "README.md").read_text()
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"

TRAIN = """\
import os, sys
import only_mine
print("trained with only_mine, loss", str(only_mine.LOSS) + ", by", sys.executable)
assert os.environ["CUDA_VISIBLE_DEVICES"]
"""

PIP = """\
#!{python}
import pathlib, sys
assert sys.argv[1:3] == ["install", "-q"] and sys.argv[3] == ".", sys.argv
bin_dir = pathlib.Path(__file__).parent
for name, module, call in (("leptond", "leptond.__main__", "main"), ("leptonctl", "leptond.cli", "program")):
    script = f"#!{{bin_dir}}/python\\nimport sys\\nfrom {{module}} import {{call}}\\nsys.exit({{call}}())\\n"
    (bin_dir / name).write_text(script)
    (bin_dir / name).chmod(0o755)
site = next(bin_dir.parent.glob("lib/python3*/site-packages"))
(site / "leptond.pth").write_text({paths!r})
"""
PYTHON3 = """\
#!/bin/sh
[ "$1 $2" = "-m venv" ] || exec {python} "$@"
{python} -m venv --without-pip "$3" && cp {pip} "$3/bin/pip"
"""


def blocks_of(heading: str) -> list[str]:
    """The shell blocks between a phrase of the README and the next heading."""
    part = README[README.index(heading) :]
    return re.findall(r"```sh\n(.*?)```", part.partition("\n## ")[0], re.DOTALL)


class Newcomer:
    """A person at a shell: an empty home, a checkout, a project, and an environment of its own, which is
    active and has a module that no other environment has."""

    def __init__(self, home: Path, *, path: str) -> None:
        self.home = home
        self.checkout = TOP
        self.project = home / "project"
        self.project.mkdir(parents=True)
        (home / "run").mkdir(mode=0o700)
        mine = home / "mine"
        subprocess.run(
            [BASE_PYTHON, "-m", "venv", "--without-pip", str(mine)], check=True, timeout=PATIENCE_S
        )
        (next(mine.glob("lib/python3*/site-packages")) / "only_mine.py").write_text("LOSS = 1.5\n")
        (self.project / "train.py").write_text(TRAIN)
        (self.project / "eval.py").write_text("import only_mine\n")
        self.env = {
            "HOME": str(home),
            "PATH": f"{mine}/bin:{path}",
            "VIRTUAL_ENV": str(mine),
            "LANG": "C.UTF-8",
            "XDG_RUNTIME_DIR": str(home / "run"),
            "LEPTOND_ENGINE__WARM": "false",
        }
        self.daemon: subprocess.Popen[bytes] | None = None

    def types(self, line: str, *, where: Path | None = None) -> str:
        """What a line, or a block, prints; it must not fail. The PATH that it exports stays."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f'{line}\nprintf %s "$PATH" >"$HOME/.path"'],
            cwd=where or self.project,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S * 8,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        self.env["PATH"] = (self.home / ".path").read_text()
        return done.stdout + done.stderr

    def starts(self, line: str) -> None:
        """Leave a line running in a terminal of its own, until the daemon that it starts answers."""
        log = self.home / "terminal.log"
        with log.open("wb") as out:
            # exec: the signal at the end is for the daemon, not for a shell
            self.daemon = subprocess.Popen(
                ["bash", "-c", f"exec {line}"], cwd=self.project, env=self.env, stdout=out, stderr=out
            )
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and self.daemon.poll() is None:
            if "daemon.ready" in log.read_text():
                return
            time.sleep(0.05)
        raise AssertionError(f"{line}: the daemon does not get ready\n{log.read_text()}")

    def leaves(self) -> None:
        """End the daemon as Ctrl-C does, and the jobs before it."""
        if self.daemon is not None:
            if self.daemon.poll() is None:
                self.types("leptonctl cancel --all --yes >/dev/null 2>&1 || true")
                self.daemon.send_signal(signal.SIGINT)
            assert self.daemon.wait(PATIENCE_S) == 0


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    """Somebody whose `python3 -m venv` and whose pip need no network."""
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    pip = tmp_path / "pip"
    libraries = "\n".join(place for place in sys.path if place.endswith("-packages"))
    pip.write_text(PIP.format(python=BASE_PYTHON, paths=f"{TOP}\n{libraries}\n"))
    pip.chmod(0o755)
    (bin_dir / "python3").write_text(PYTHON3.format(python=BASE_PYTHON, pip=pip))
    (bin_dir / "python3").chmod(0o755)
    one = Newcomer(tmp_path / "home", path=f"{bin_dir}:{SYSTEM_PATH}")
    yield one
    one.leaves()


def follow_the_readme(newcomer: Newcomer) -> None:
    """Install, start and use it by the README's own words."""
    install, start, first_hour = blocks_of("**For yourself.**")[:3]
    newcomer.types(install, where=newcomer.checkout)
    found = newcomer.types("command -v leptond leptonctl python").split()
    assert found[:2] == [str(newcomer.home / ".local/bin" / name) for name in ("leptond", "leptonctl")]
    assert found[2] == str(newcomer.home / "mine/bin/python"), "leptond's own python is not on the PATH"
    assert sorted(file.name for file in (newcomer.home / ".local/bin").iterdir()) == ["leptonctl", "leptond"]

    said = newcomer.types("leptonctl status || true")
    assert "systemctl --user start leptond" in said, "init has written the unit"
    (line,) = (line for line in start.splitlines() if "--simulate-gpus" in line)
    newcomer.starts(line)
    for line in first_hour.splitlines():
        said = newcomer.types(line)
        for number in re.findall(r"# prints: Submitted job (\d+)\b", line):
            assert said.startswith(f"Submitted job {number}\n")
        if line.startswith("leptonctl logs -f first"):
            assert "trained with only_mine, loss 1.5, by" in said
            assert str(newcomer.home / "mine") in said
        if line.startswith("leptonctl dashboard"):
            url = re.findall(r"http://127\.0\.0\.1:\d+/", said)[0]
            with urllib.request.urlopen(url, timeout=PATIENCE_S) as page:
                assert b"<title>" in page.read()
    assert newcomer.types("leptonctl doctor || true").count("FAIL") == 0


def test_nothing_fails_in_the_first_hour(newcomer: Newcomer):
    follow_the_readme(newcomer)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_fails_in_the_first_hour_with_a_real_installation(tmp_path: Path):
    checkout = tmp_path / "leptond"
    subprocess.run(["git", "clone", "-q", str(TOP), str(checkout)], check=True, timeout=PATIENCE_S)
    newcomer = Newcomer(tmp_path / "home", path=f"{Path(BASE_PYTHON).parent}:{SYSTEM_PATH}")
    newcomer.checkout = checkout
    try:
        follow_the_readme(newcomer)
        assert (newcomer.home / ".local/share/man/man1/leptonctl.1").is_file(), "man leptonctl finds it"
    finally:
        newcomer.leaves()
