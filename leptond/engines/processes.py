"""Processes that cannot be mistaken for others: identity is (boot id, pid, start time), pinned by a pidfd
before anything is done to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from leptond.clock import kernel_boot_id
from leptond.core.model import Identity

COOKIE = "LEPTOND_ATTEMPT_ID"
"""The environment variable that marks every process of an attempt that did not clear its environment."""


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot (field 22 of its stat); None when it is gone."""
    fields = _stat(pid)
    return int(fields[19]) if fields is not None else None


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the third (state) on. The second, the name, may hold anything."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return text[text.rfind(b")") + 2 :].decode("ascii", "replace").split()


def is_alive(pid: int) -> bool:
    """Whether a process exists and is more than a zombie."""
    fields = _stat(pid)
    return fields is not None and fields[0] not in ("Z", "X")


def pin(identity: Identity) -> int | None:
    """A pidfd of exactly this process, or None when it is gone (or belongs to an earlier boot).

    The start time is compared after the pidfd is open: from then on the pid cannot change hands.
    """
    if identity.boot_id != kernel_boot_id():
        return None
    try:
        pidfd = os.pidfd_open(identity.pid)
    except OSError:
        return None
    if start_ticks(identity.pid) != identity.start_ticks or not is_alive(identity.pid):
        os.close(pidfd)
        return None
    return pidfd


def send(pidfd: int, number: int) -> bool:
    """Signals the pinned process; False when it has ended."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    return True


async def ended(pidfd: int) -> None:
    """Returns when the pinned process has ended; collects it if it is a child of ours."""
    loop = asyncio.get_running_loop()
    gone: asyncio.Future[None] = loop.create_future()

    def ready() -> None:
        loop.remove_reader(pidfd)
        if not gone.done():
            gone.set_result(None)

    loop.add_reader(pidfd, ready)
    try:
        await gone
    finally:
        loop.remove_reader(pidfd)
    # an adopted process is somebody else's child; the call does not block
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)  # noqa: ASYNC222


def all_pids() -> Iterator[int]:
    """The pid of every process that /proc shows."""
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            yield int(entry.name)


def cookies() -> dict[int, str]:
    """Pid and attempt id of every process that carries the cookie. Processes whose environment we may not
    read are not ours."""
    found = {}
    mark = f"{COOKIE}=".encode()
    for pid in all_pids():
        try:
            environ = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        for item in environ.split(b"\0"):
            if item.startswith(mark):
                found[pid] = item[len(mark) :].decode("ascii", "replace")
                break
    return {pid: attempt for pid, attempt in found.items() if is_alive(pid)}


def remains(attempt_id: str, main: Identity | None) -> set[int]:
    """What is left of an attempt whose shim is gone: processes with its cookie, those in the session of
    its command `main`, and all descendants of these.

    The number of a session is not given to a new process while the session has members, so members without
    a leader are ours; a leader that started at another time is somebody else, and so is its session.
    """
    members = {pid for pid, attempt in cookies().items() if attempt == attempt_id}
    stats = {pid: fields for pid in all_pids() if (fields := _stat(pid)) is not None}
    if main is not None and main.boot_id == kernel_boot_id():
        leader = stats.get(main.pid)
        if leader is None or int(leader[19]) == main.start_ticks:
            members |= {pid for pid, fields in stats.items() if int(fields[3]) == main.pid}
    fresh = set(members)
    while fresh:
        fresh = {pid for pid, fields in stats.items() if int(fields[1]) in fresh} - members
        members |= fresh
    return {pid for pid in members if pid in stats and stats[pid][0] not in ("Z", "X")}


def command_of(shim: Identity, pid: int | None) -> Identity | None:
    """The identity of an attempt's command, if `pid` is a child of its live shim."""
    fields = _stat(pid) if pid is not None else None
    if pid is None or fields is None or int(fields[1]) != shim.pid:
        return None
    return Identity(boot_id=shim.boot_id, pid=pid, start_ticks=int(fields[19]))


async def end_remains(attempt_id: str, main: Identity | None, *, grace_s: float, limit_s: float) -> int:
    """Ends what is left of an attempt: SIGTERM, `grace_s`, then SIGKILL until nothing is left or
    `limit_s` has passed. How many processes are left."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    left = remains(attempt_id, main)
    _signal_all(left, signal.SIGTERM)
    while left and loop.time() - begin < limit_s:
        # these are nobody's children that we could wait for, and there may be new ones: look again
        await asyncio.sleep(0.05)
        left = remains(attempt_id, main)
        if loop.time() - begin >= grace_s:
            _signal_all(left, signal.SIGKILL)
    return len(left)


def _signal_all(pids: set[int], number: int) -> None:
    for pid in pids:
        ticks = start_ticks(pid)
        if ticks is None:
            continue
        pidfd = pin(Identity(boot_id=kernel_boot_id(), pid=pid, start_ticks=ticks))
        if pidfd is None:
            continue
        try:
            send(pidfd, number)
        except PermissionError:
            pass
        finally:
            os.close(pidfd)
