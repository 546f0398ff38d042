"""Processes that cannot be mistaken for others: identity is (boot id, pid, start time), pinned by a pidfd
before anything is done to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from leptond.base import procfs
from leptond.base.clock import kernel_boot_id
from leptond.base.procfs import SHORTAGES, Stat, all_pids
from leptond.core.jobs.model import Identity
from leptond.engines import cgroup

COOKIE = "LEPTOND_ATTEMPT_ID"
"""The environment variable that marks every process of an attempt that did not clear its environment."""

TAG_DIGITS = 15
"""The number of digits of an attempt's id (hexadecimal) in its tag."""

_TAG = 1 << 61
_LIMIT = b"\nMax file locks "
_MARKS = (COOKIE.encode(), b"LEPTOND_SHIM")


def _stat(pid: int) -> Stat | None:
    """Return the stat of a process; None when it is gone. Raises OSError when the daemon lacks descriptors or
    memory: to take the process for gone would start a second copy beside it."""
    return procfs.read_stat(pid, strict=True)


def _read(pid: int, name: str) -> bytes:
    """Return a file of /proc/PID; nothing when the process is gone or the file is not readable. Raises
    OSError as :func:`_stat`."""
    return procfs.read_file(pid, name, strict=True) or b""


def start_ticks(pid: int) -> int | None:
    """Return the start time of a process in clock ticks since boot; None when it is gone."""
    stat = _stat(pid)
    return stat.start_ticks if stat is not None else None


def is_alive(pid: int) -> bool:
    """Return True if a process exists and is more than a zombie."""
    stat = _stat(pid)
    return stat is not None and not stat.ended


def is_stopped(pid: int) -> bool:
    """Return True if a process is stopped by a signal or by a tracer."""
    stat = _stat(pid)
    return stat is not None and stat.stopped


def tag_of(attempt_id: str) -> int:
    """Return the number that marks processes of an attempt that have cleared their environment, left their
    session and lost their parents: their RLIMIT_LOCKS. The kernel has not used that limit since
    2.4.25, but a process inherits it, only root can raise it, and /proc/PID/limits shows it to everybody.

    >>> attempt_of_tag(tag_of("0123456789abcdef" * 2))
    '0123456789abcde'
    """
    return _TAG | int(attempt_id[:TAG_DIGITS], 16)


def attempt_of_tag(tag: int) -> str | None:
    """Return the beginning of the attempt's id; None for a number that is no tag."""
    if not _TAG <= tag < 2 * _TAG:
        return None
    return f"{tag - _TAG:0{TAG_DIGITS}x}"


def tags() -> dict[int, str]:
    """Return pid and beginning of the attempt's id of every living process that is tagged."""
    found = {pid: attempt for pid in all_pids() if (attempt := _tag_on(pid)) is not None}
    return {pid: attempt for pid, attempt in found.items() if is_alive(pid)}


def _tag_on(pid: int) -> str | None:
    _, _, rest = _read(pid, "limits").partition(_LIMIT)
    value = rest.split(maxsplit=1)[:1]
    return attempt_of_tag(int(value[0])) if value and value[0].isdigit() else None


def pin(identity: Identity) -> int | None:
    """Return a pidfd of exactly this process, or None when it is gone (or belongs to an earlier boot).

    The start time is compared after the pidfd is open: from then on the pid cannot change hands. Raises
    OSError when that cannot be found out: no descriptors left, no memory.
    """
    if identity.boot_id != kernel_boot_id():
        return None
    try:
        pidfd = os.pidfd_open(identity.pid)
    except OSError as error:
        if error.errno in SHORTAGES:
            raise
        return None
    with contextlib.ExitStack() as unless_it_is:
        unless_it_is.callback(os.close, pidfd)
        if start_ticks(identity.pid) != identity.start_ticks or not is_alive(identity.pid):
            return None
        unless_it_is.pop_all()
    return pidfd


def send(pidfd: int, number: int) -> bool:
    """Signal the pinned process; False when it has ended."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    return True


def has_ended(pidfd: int) -> bool:
    """Return True if the pinned process has ended. (By poll: select takes no descriptor above 1023.)"""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


async def ended(pidfd: int) -> None:
    """Return when the pinned process has ended; collect it if it is a child of ours."""
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
    # an adopted process is not our child; the call does not block
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)  # noqa: ASYNC222


def cookies() -> dict[int, str]:
    """Return pid and attempt id of every process that carries the cookie. Processes whose environment we may
    not read are not ours."""
    found = {}
    mark = f"{COOKIE}=".encode()
    for pid in all_pids():
        for item in _read(pid, "environ").split(b"\0"):
            if item.startswith(mark):
                found[pid] = item[len(mark) :].decode("ascii", "replace")
                break
    return {pid: attempt for pid, attempt in found.items() if is_alive(pid)}


def attempt_of(pid: int) -> str | None:
    """Return the attempt that a process belongs to: by its cookie, or by an ancestor's (a job may clear the
    environment of what it starts), or by its shim. Where jobs run as their submitters, by the
    shim or the cgroup alone. Empty for a process of no attempt, None for one that /proc does not show (it has
    ended, or lives in another PID namespace)."""
    seen, process = False, pid
    for _ in range(64):
        stat = _stat(pid)
        if stat is None:
            break
        seen = True
        for item in _read(pid, "environ").split(b"\0"):  # nothing: of another user
            name, _, value = item.partition(b"=")
            # anybody may set the variables: in a process of the daemon's own user they are true
            if name in _MARKS and _is_own(pid):
                return value.decode("ascii", "replace")
        pid = stat.parent
        if pid <= 1:
            break
    return (cgroup.attempt_in(process) or "") if seen else None


def _is_own(pid: int) -> bool:
    """Return True if all uids of a process are those of this one."""
    for line in _read(pid, "status").splitlines():
        if line.startswith(b"Uid:"):
            return set(map(int, line.split()[1:])) == {os.geteuid()}
    return False


def remains(attempt_id: str, main: Identity | None, known: dict[int, int] | None = None) -> dict[int, int]:
    """Return pid and start time of what is left of an attempt without a shim: processes with its cookie or
    its tag, those in the session of its command `main` while that lives, and all descendants of these.
    `known` gathers what was found: it stays ours when what proved it has gone.

    A session without its leader proves nothing: another process may have had the leader's number, called
    setsid, forked and left, as daemons do. The start times are read first, so a process that still has
    the same one when it is signalled is the one that was examined."""
    stats = {pid: stat for pid in all_pids() if (stat := _stat(pid)) is not None}
    members = {pid for pid, attempt in cookies().items() if attempt == attempt_id}
    members |= {pid for pid, attempt in tags().items() if attempt_id.startswith(attempt)}
    if main is not None and main.boot_id == kernel_boot_id():
        leader = stats.get(main.pid)
        if leader is not None and leader.start_ticks == main.start_ticks:
            members |= {pid for pid, stat in stats.items() if stat.session == main.pid}
    known = known if known is not None else {}
    members |= {pid for pid, ticks in known.items() if pid in stats and stats[pid].start_ticks == ticks}
    fresh = set(members)
    while fresh:
        fresh = {pid for pid, stat in stats.items() if stat.parent in fresh} - members
        members |= fresh
    left = {pid: stats[pid].start_ticks for pid in members if pid in stats and not stats[pid].ended}
    known.update(left)
    return left


def command_of(shim: Identity, pid: int | None) -> Identity | None:
    """Return the identity of an attempt's command, if `pid` is a child of its live shim."""
    stat = _stat(pid) if pid is not None else None
    if pid is None or stat is None or stat.parent != shim.pid:
        return None
    return Identity(boot_id=shim.boot_id, pid=pid, start_ticks=stat.start_ticks)


async def end_remains(
    attempt_id: str,
    main: Identity | None,
    *,
    grace_s: float,
    limit_s: float,
    note: Callable[[int], None] = lambda _: None,
) -> int:
    """End what is left of an attempt: SIGTERM, `grace_s`, then SIGKILL until nothing is left or `limit_s` has
    passed. `note` is called with the pid of each process that is ended. Return the number of processes left;
    at least one where /proc could not be read to the end."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    left, seen, known, asked = {0}, set[int](), dict[int, int](), False
    while left and loop.time() - begin < limit_s:
        try:
            if not asked:
                left = await asyncio.to_thread(_signal_remains, attempt_id, main, known)
                asked = True
                _note_new(left, seen, note)
                seen |= left
            # they are not our children to wait for, and there may be new ones: list them again
            if left:
                await asyncio.sleep(0.05)
            if not left or loop.time() - begin >= grace_s:
                # also where nothing was found: what forks and exits all the time is not in a list of /proc
                left = await asyncio.to_thread(_kill_remains, attempt_id, main, known)
            else:
                left = set(await asyncio.to_thread(remains, attempt_id, main, known))
        except OSError as error:
            if error.errno not in SHORTAGES:
                raise
            left = left or {0}
            await asyncio.sleep(0.05)
        _note_new(left, seen, note)
        seen |= left
    _collect(seen - {0})
    return len(left)


def _note_new(pids: set[int], seen: set[int], note: Callable[[int], None]) -> None:
    for pid in sorted(pids - seen - {0}):
        note(pid)


def _signal_remains(attempt_id: str, main: Identity | None, known: dict[int, int]) -> set[int]:
    left = remains(attempt_id, main, known)
    _signal_all(left, signal.SIGTERM)
    return set(left)


def _kill_remains(attempt_id: str, main: Identity | None, known: dict[int, int]) -> set[int]:
    """Kill one round: all are stopped first, so that nothing forks away meanwhile. Return the pids."""
    left: dict[int, int] = {}
    for _ in range(20):
        now = remains(attempt_id, main, known)
        fresh = {pid: ticks for pid, ticks in now.items() if left.get(pid) != ticks}
        if not fresh:
            break
        _signal_all(fresh, signal.SIGSTOP)
        left |= fresh
    _signal_all(left, signal.SIGKILL)
    return set(left) | _chase(attempt_id)


CHASE_S = 0.02


def _chase(attempt_id: str) -> set[int]:
    """Catch what forks and exits faster than /proc can be listed: the newest pid of the machine is in
    /proc/loadavg, and reading it costs microseconds."""
    found: set[int] = set()
    until = time.monotonic() + CHASE_S
    while time.monotonic() < until:
        newest = int(Path("/proc/loadavg").read_bytes().split()[-1])
        for pid in range(newest, max(1, newest - 4), -1):
            try:
                pidfd = os.pidfd_open(pid)
            except OSError:
                continue
            try:
                # the tag is read while the pidfd is open: if the signal arrives, it was this process's
                if attempt_id.startswith(_tag_on(pid) or "-") and is_alive(pid):
                    found.add(pid)
                    send(pidfd, signal.SIGKILL)
            except PermissionError:
                pass
            finally:
                os.close(pidfd)
    return found


def _collect(pids: set[int]) -> None:
    """Collect those that became our own children when their parents died, as they do where the daemon is the
    first process of a container."""
    for pid in pids:
        stat = _stat(pid)
        if stat is not None and stat.parent == os.getpid():
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)


def _signal_all(processes: Mapping[int, int], number: int) -> None:
    for pid, ticks in processes.items():
        pidfd = pin(Identity(boot_id=kernel_boot_id(), pid=pid, start_ticks=ticks))
        if pidfd is None:
            continue
        try:
            send(pidfd, number)
        except PermissionError:
            pass
        finally:
            os.close(pidfd)
