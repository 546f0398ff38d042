"""Daemons without what an interpreter's imports take: a process that has imported everything forks, and its
child becomes ``leptond run``, with the arguments, the environment and the files that it is given.

A library may be loaded into the template, and armed in a child that asks for it."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import gc
import importlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PR_SET_PDEATHSIG = 1
CLOSE_S = 60.0


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

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended. Raises TimeoutExpired."""
        if self.returncode is None and not select.select([self._pidfd], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("leptond", timeout or 0)
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
    """The process that has imported everything, perhaps with a `library` loaded."""

    def __init__(self, library: Path | None = None) -> None:
        env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT)}
        if library is not None:
            env["LD_PRELOAD"] = str(library)
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.template"],
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
        with self._lock:
            self._process.stdin.write(json.dumps(what).encode() + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        assert line, "the template has ended"
        return int(line)

    def run(
        self, arguments: list[str], env: dict[str, str], log: Path, *, arm: bool = False, plant: str = ""
    ) -> Child:
        """``leptond ARGUMENTS`` in a child with exactly this environment. `arm`: with the library in effect;
        `plant`: after this ``module:function`` was called."""
        what = {"argv": arguments, "env": env, "log": str(log), "arm": arm, "plant": plant}
        return Child(self, self.ask(what))

    def close(self) -> None:
        """Ends the template; its children are ended before."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(CLOSE_S)
        assert self._process.stdout is not None
        self._process.stdout.close()


@functools.cache
def shared() -> Template:
    """The template of this process, without a library."""
    one = Template()
    atexit.register(one.close)
    return one


def serve() -> None:
    """The template's own life."""
    from leptond.__main__ import _import_lightly, main

    _import_lightly()
    import leptond.daemon.logging  # noqa: F401

    gc.freeze()  # what all have inherited is no garbage of theirs
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
        # tests that are killed take their daemons along
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        null = os.open(os.devnull, os.O_RDONLY)
        log = os.open(question["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.closerange(3, 256)
        os.environ.clear()
        os.environ.update(question["env"])
        random.seed()  # each its own dice: two daemons draw ports
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
