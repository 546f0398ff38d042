"""The life of a shim: get ready, then take one attempt after another."""

from __future__ import annotations

import ctypes
import json
import os
import signal

from leptond.attempt_files import layout
from leptond.base import durable, failpoints
from leptond.engines import protocol
from leptond.engines.shim import gate, relay
from leptond.engines.shim.attempt import Attempt
from leptond.engines.shim.command import ExecFailed, RunHere
from leptond.engines.shim.supervise import Supervisor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["RunHere", "main"]

PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
USES = 200
"""The attempts of one shim: whatever an interpreter gathers over time goes with it."""


def main(
    rename: Callable[[str], None] | None = None,
    cold_reason: Callable[[dict[str, Any]], str] | None = None,
) -> None:
    """Run the attempt on fd 4, if there is one, and the next ones that the daemon launches.

    `rename` shows another attempt's id as this process's in /proc; without it a shim takes one attempt only.
    `cold_reason` as in :class:`~leptond.engines.shim.command.Command`. Raises RunHere in the process of a
    command that runs there.
    """
    wake = settle_in()
    os.lseek(protocol.LAUNCH_FD, 0, os.SEEK_SET)
    launch = json.loads(durable.read_all(protocol.LAUNCH_FD))
    os.close(protocol.LAUNCH_FD)
    if launch.get("relays"):
        relay.run(wake, cold_reason)
        return
    cpus = os.sched_getaffinity(0)
    for use in range(USES):
        if launch:
            reusable = run(launch, wake, cold_reason)
            if not reusable or not launch.get("again") or rename is None or use == USES - 1:
                return
            try:
                os.sched_setaffinity(0, cpus)
            except OSError:
                return  # they are no longer allowed to this process
            os.dup2(0, 2)
            rename("")
            if not gate.send(protocol.RESTING):
                return
        elif rename is None:
            return
        word, text, descriptors = gate.receive()
        while word in (protocol.HAND_ON, protocol.BEFORE, protocol.WITHDRAW):  # it came too late
            gate.close_all(descriptors)
            word, text, descriptors = gate.receive()
        if word != protocol.LAUNCH:
            return
        launch = json.loads(text)
        rename(launch["attempt_id"])
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        errors = os.open(os.path.join(launch["standby"], layout.SHIM_LOG), flags, 0o600)
        os.dup2(errors, 2)
        os.close(errors)


def settle_in() -> int:
    """Make this process ready to be the parent of an attempt; return the descriptor that signals come by.
    Raises OSError."""
    # handled and let pass, because what is ignored would be ignored by the command too
    for number in signal.valid_signals():
        ignored = signal.getsignal(number) is signal.SIG_IGN and number != signal.SIGPIPE
        if ignored or number in (
            signal.SIGTERM,
            signal.SIGINT,
            signal.SIGHUP,
            signal.SIGQUIT,
            signal.SIGUSR2,
        ):
            signal.signal(number, lambda *_: None)
    wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGUSR1):
        signal.signal(number, lambda *_: None)
    for fd in (protocol.GATE_FD, protocol.LAUNCH_FD):
        os.set_inheritable(fd, False)
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot become subreaper")
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("0")  # the daemon may be protected; the job must not be
    except OSError:
        pass
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)  # no job of the same user may trace the shim
    return wake_read


def run(
    launch: dict[str, Any], wake: int, cold_reason: Callable[[dict[str, Any]], str] | None = None
) -> bool:
    """Run one attempt. Return True if its end is booked and recorded, and nothing is left of it in this
    process. Raises OSError when it cannot get ready."""
    if "failpoints" in launch:
        failpoints.arm(launch["failpoints"])
    failpoints.fp("shim_begin")
    attempt = Attempt(launch, cold_reason)
    try:
        ticks = attempt.identify()
        attempt.open()
    except OSError as failure:
        gate.send(protocol.CANNOT, f"{failure.errno} {failure}")
        raise
    gate.send(protocol.READY, ticks)
    failpoints.fp("shim_after_ready")
    assignment = attempt.succession.wait()
    failpoints.fp("shim_after_gate")
    if assignment is None:
        attempt.dismiss()
        attempt.finish(never_started=True)
        return False
    try:
        attempt.take_place(assignment["claim"])
        attempt.start(assignment["env"], assignment["cpus"])
    except ExecFailed as failure:
        gate.send(protocol.FAILED, failure.text[:4000])
        attempt.finish(exec_error=failure.text, exec_errno=failure.number, started_at=attempt.started_at)
        return False
    except OSError as failure:  # no free space on the disk
        attempt.dismiss()
        attempt.finish(exec_error=f"cannot start: {failure}", exec_errno=failure.errno)
        return False
    gate.send(protocol.STARTED, f"{attempt.command.pid} {attempt.record['start'] or ''}")
    failpoints.fp("shim_after_started")
    Supervisor(attempt).watch(wake)
    if attempt.command.lost:
        os._exit(1)  # without a record: nobody can say how it ended, and the daemon looks for what is left
    failpoints.fp("shim_all_gone")
    recorded = attempt.finish(
        main_pid=attempt.command.pid,
        started_at=attempt.started_at,
        log_bytes=attempt.output.log.total,
        log_dropped_bytes=attempt.output.log.dropped,
    )
    return recorded and attempt.leave()
