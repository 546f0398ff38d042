"""Daemons for campaigns: forked from a template (tests/support/template.py) with the library of preload/,
which is armed in a child that asks for it. One template serves one thread."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Any

from tests.support.daemon import Daemon
from tests.support.template import Template

HERE = Path(__file__).parent


@functools.cache
def built(name: str) -> Path:
    """The compiled ``preload/NAME.c``: a library for "faults", a program otherwise."""
    place = Path(tempfile.mkdtemp(prefix="lept-c-"))
    out = place / (f"{name}.so" if name == "faults" else name)
    how = ["-shared", "-fPIC", "-ldl", "-lpthread"] if name == "faults" else []
    source = HERE / "preload" / f"{name}.c"
    command = ["gcc", "-O2", "-Wall", "-o", str(out), str(source), *how]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return out


def why_not() -> str:
    """Why this machine cannot run what needs the library; empty when it can."""
    return "" if shutil.which("gcc") else "there is no gcc"


class ForkedDaemon(Daemon):
    """A daemon from a template. `faults`: LEPTOND_FAULTS_* of the next start only; with LD_PRELOAD among
    them, they go on to the shims. `plant`: a function of plants.py that runs before the next start."""

    def __init__(self, template: Template, state_dir: Path, *options: str, env: dict[str, str]) -> None:
        super().__init__(state_dir, *options, env=env)
        self._template = template
        self.faults: dict[str, str] = {}
        self.arm = False
        self.plant = ""

    def _launch(self, log: IO[bytes]) -> Any:
        faults, arm = self.faults, self.arm
        plant, self.plant = self.plant, ""
        self.faults, self.arm = {}, False
        options = [*self.options, "--unsafe-failpoints"] if faults else list(self.options)
        return self._template.run(
            ["run", "--state-dir", str(self.state_dir), *options],
            {**self.env, **faults},
            self.log,
            arm=arm,
            plant=plant,
        )
