"""Daemons without the second that an interpreter's imports take: a process that has imported everything
forks, and its child becomes ``leptond run``. Only for campaigns; one template serves one thread.

The library of preload/ is loaded into the template, and armed in a child that asks for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

from tests.support.daemon import PATIENCE_S, Daemon

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PR_SET_PDEATHSIG = 1


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


class Child:
    """A forked daemon, with the face of a Popen."""

    def __init__(self, template: Template, pid: int) -> None:
        self._template = template
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code (-N by signal N), or None while it lives."""
        if self.returncode is None and select.select([self._pidfd], [], [], 0)[0]:
            self.returncode = self._template.ask({"wait": self.pid})
            os.close(self._pidfd)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Its exit code, once it has ended. Raises TimeoutExpired."""
        if self.returncode is None and not select.select([self._pidfd], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("leptond", timeout)
        code = self.poll()
        assert code is not None
        return code

    def send_signal(self, number: int) -> None:
        """Nothing, when it has ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


class Template:
    """The process that has imported everything."""

    def __init__(self, *, preload: bool = True) -> None:
        env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT)}
        if preload:
            env["LD_PRELOAD"] = str(built("faults"))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.template"],
            env=env,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,
        )
        self.ask({"hello": 1})

    def ask(self, what: dict[str, Any]) -> int:
        """One question, one number."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(what).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the template has ended"
        return int(line)

    def run(
        self, arguments: list[str], env: dict[str, str], log: Path, *, arm: bool, plant: str = ""
    ) -> Child:
        """``leptond ARGUMENTS`` in a child with exactly this environment."""
        what = {"argv": arguments, "env": env, "log": str(log), "arm": arm, "plant": plant}
        return Child(self, self.ask(what))

    def close(self) -> None:
        """Ends the template; its children are ended before."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE_S)
        assert self._process.stdout is not None
        self._process.stdout.close()


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


def serve() -> None:
    """The template's own life."""
    import leptond.daemon.app
    import leptond.daemon.logging
    from leptond.__main__ import main

    _ = leptond.daemon.app, leptond.daemon.logging
    for line in sys.stdin.buffer:
        question = json.loads(line)
        answer = 0
        if "argv" in question:
            answer = os.fork()
            if answer == 0:
                _become(question, main)
        elif "wait" in question:
            answer = os.waitstatus_to_exitcode(os.waitpid(question["wait"], 0)[1])
        os.write(1, f"{answer}\n".encode())


def _become(question: dict[str, Any], main: Any) -> None:
    code: object = 70
    try:
        os.setpgid(0, 0)
        # a campaign that is killed takes its daemons along
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        null = os.open(os.devnull, os.O_RDONLY)
        log = os.open(question["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.closerange(3, 256)
        os.environ.clear()
        os.environ.update(question["env"])
        if question["plant"]:
            module, _, function = question["plant"].partition(":")
            getattr(importlib.import_module(module), function)()
        if question["arm"]:
            ctypes.CDLL(None).leptond_faults_arm()
        main(question["argv"])
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    serve()
