"""Imports tried in a throw-away process, which may hang, crash or end up with threads.

Loaded by a zygote that runs in the job's interpreter; uses the standard library alone."""

from __future__ import annotations

import json
import os
import select
import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

STEP_S = 60.0
"""The limit of one import."""


def each(
    names: Sequence[str], work: Callable[[str], dict[str, Any]], *, step_s: float = STEP_S
) -> dict[str, dict[str, Any]]:
    """Return what `work` returns for each name, in a forked process: ``why`` is why the name cannot be used.
    A name at which that process dies, or which takes longer than `step_s`, is passed over."""
    results: dict[str, dict[str, Any]] = {}
    left = list(names)
    while left:
        done, why = _run(left, work, step_s)
        results.update(done)
        left = left[len(done) :]
        if left:
            results[left.pop(0)] = {"why": why}
    return results


def _run(
    names: Sequence[str], work: Callable[[str], dict[str, Any]], step_s: float
) -> tuple[dict[str, dict[str, Any]], str]:
    """Return the results of one process, up to the name that it did not survive, and what became of it."""
    read, write = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        os.close(read)
        _work(names, work, write)
    os.close(write)
    results: dict[str, dict[str, Any]] = {}
    data = b""
    poll = select.poll()
    poll.register(read, select.POLLIN)
    until = time.monotonic() + step_s
    why = ""
    while True:
        if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
            why = f"takes longer than {step_s:.0f} s"
            break
        chunk = os.read(read, 1 << 16)
        if not chunk:
            break
        *lines, data = (data + chunk).split(b"\n")
        for line in lines:
            name, result = json.loads(line)
            results[name] = result
            until = time.monotonic() + step_s
    os.close(read)
    _kill_session(child)
    _, status = os.waitpid(child, 0)
    if not why:
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        why = f"ends the process by signal {number}" if number else "ends the process"
    return results, why


def _kill_session(child: int) -> None:
    """Kill a trial and what it has started: it leads a session of its own."""
    try:
        os.killpg(child, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        os.kill(child, signal.SIGKILL)


def _work(names: Sequence[str], work: Callable[[str], dict[str, Any]], write: int) -> None:
    """Do the work of the throw-away process, and end it."""
    try:
        os.setsid()
        printed = os.memfd_create("printed")  # its size tells if an import prints something
        for fd in (1, 2):
            os.dup2(printed, fd)
        os.close(printed)
        for name in names:
            line = json.dumps([name, work(name)]).encode() + b"\n"
            while line:
                line = line[os.write(write, line) :]
    finally:
        os._exit(0)
