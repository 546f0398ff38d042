"""The processes of an attempt as /proc shows them, with all that :mod:`~leptond.engines.shim.stop_plan`
needs. Read at a stop only."""

from __future__ import annotations

import os
import re
import signal
import stat as modes

from leptond.base import procfs
from leptond.engines.shim.clock import boot_now
from leptond.engines.shim.stop_plan import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

WAITS_FOR_CHILDREN = ("do_wait", "kernel_wait")
FETCHES_SIGNALS = "do_sigtimedwait"
WAITS_FOR_SIGNALS = ("sigsuspend", FETCHES_SIGNALS, "__do_sys_pause", "__x64_sys_pause", "do_pause")
WAIT_CALLS = {"x86_64": {61, 247}, "aarch64": {260, 95}}
"""wait4 and waitid, for a kernel that does not name the place where a process sleeps."""
RANKS = frozenset({b"RANK=0", b"OMPI_COMM_WORLD_RANK=0", b"PMI_RANK=0", b"PMIX_RANK=0", b"SLURM_PROCID=0"})
"""The environment of the first of several ranks, by its launcher."""
ELASTIC = b"TORCHELASTIC_RUN_ID="
ELASTIC_PATIENCE_S = 30.0
"""The time that torchrun gives its ranks, unless it can be told of another one."""
TORCH = re.compile(rb"\s(/\S*?/torch)/lib/libtorch")


def read_processes(root: int, patience_s: float = 0.0) -> dict[int, Process]:
    """Return the living descendants of `root` by pid. `patience_s`: the time that a launcher of ranks has to
    give them, in order not to count as one that has a time of its own."""
    stats = {pid: one for pid in procfs.all_pids() if (one := procfs.read_stat(pid)) is not None}
    children: dict[int, list[int]] = {}
    for pid, one in stats.items():
        children.setdefault(one.parent, []).append(pid)
    found: dict[int, Process] = {}
    fresh, now = [root], boot_now()
    while fresh:
        for pid in children.get(fresh.pop(), ()):
            fresh.append(pid)
            process = None if stats[pid].ended else _read(pid, stats[pid], now)
            if process is not None:
                found[pid] = process
    _note_ranks(found, patience_s)
    return found


def _read(pid: int, stat: procfs.Stat, now: float) -> Process | None:
    text = procfs.read_file(pid, "status")
    if text is None:
        return None
    fields = dict(line.split(b":", 1) for line in text.splitlines() if b":" in line)
    threads = int(fields.get(b"Threads", b"1"))
    reads, writes, stdin, terminal = _pipes(pid)
    place = (procfs.read_file(pid, "wchan") or b"").decode("ascii", "replace")
    return Process(
        pid,
        stat.parent,
        start_ticks=stat.start_ticks,
        name=fields.get(b"Name", b"").strip().decode("utf-8", "replace"),
        command=procfs.read_file(pid, "cmdline") or b"",
        state=stat.state,
        catches=int(fields.get(b"SigCgt", b"0"), 16),
        ignores=int(fields.get(b"SigIgn", b"0"), 16),
        blocks=int(fields.get(b"SigBlk", b"0"), 16),
        threads=threads,
        waits=_waits(pid, place, threads),
        fetches=place.startswith(FETCHES_SIGNALS),
        terminal=terminal,
        reads=reads,
        writes=writes,
        stdin=stdin,
        age_s=now - stat.start_ticks / os.sysconf("SC_CLK_TCK"),
    )


def _waits(pid: int, place: str, threads: int) -> bool:
    """Return True if the main thread sleeps until a child ends, or, where it is the only one, until a signal
    comes."""
    if place and place != "0":
        return place.startswith(WAITS_FOR_CHILDREN) or (threads == 1 and place.startswith(WAITS_FOR_SIGNALS))
    call = (procfs.read_file(pid, "syscall") or b"").split(maxsplit=1)[:1]
    return bool(call) and call[0].isdigit() and int(call[0]) in WAIT_CALLS.get(os.uname().machine, ())


def _pipes(pid: int) -> tuple[set[int], set[int], int, bool]:
    """Return the pipes that a process has open for reading and for writing, the one that is its standard
    input, and whether it serves a terminal."""
    reads: set[int] = set()
    writes: set[int] = set()
    stdin, terminal = 0, False
    for fd, pipe, mode in open_pipes(pid):
        if pipe == 0:
            terminal = True
            continue
        if mode & modes.S_IRUSR:
            reads.add(pipe)
            stdin = pipe if fd == 0 else stdin
        if mode & modes.S_IWUSR:
            writes.add(pipe)
    return reads, writes, stdin, terminal


def open_pipes(pid: int) -> Iterable[tuple[int, int, int]]:
    """Yield descriptor, inode and mode of each pipe that a process has open; inode 0 for a terminal's master
    side. Nothing where it may not be seen."""
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return
    for name in names:
        path = f"/proc/{pid}/fd/{name}"
        try:
            target = os.readlink(path)
            if target.startswith("pipe:["):
                yield int(name), int(target[6:-1]), os.lstat(path).st_mode
            elif target.endswith("/ptmx"):
                yield int(name), 0, 0
        except OSError:
            continue  # closed meanwhile


def _note_ranks(found: dict[int, Process], patience_s: float) -> None:
    """Mark the launchers of ranks that may not give them `patience_s`."""
    for one in found.values():
        parent = found.get(one.parent)
        if parent is None or parent.ranks or parent.is_shell or not parent.hears(signal.SIGTERM):
            continue
        given = set((procfs.read_file(one.pid, "environ") or b"").split(b"\0"))
        if not given & RANKS or given & RANKS & _environ(parent.pid):
            continue
        elastic = any(item.startswith(ELASTIC) for item in given)
        parent.ranks = not elastic or (patience_s > ELASTIC_PATIENCE_S and not _can_be_told(parent.pid))


def _environ(pid: int) -> set[bytes]:
    return set((procfs.read_file(pid, "environ") or b"").split(b"\0"))


def _can_be_told(pid: int) -> bool:
    """Return True if the torch of a process reads the time that it has to give its ranks (2.12 and newer)."""
    place = TORCH.search(procfs.read_file(pid, "maps") or b"")
    if place is None:
        return False
    try:
        with open(os.path.join(os.fsdecode(place.group(1)), "distributed/launcher/api.py"), "rb") as file:
            return b"TORCH_ELASTIC_SHUTDOWN_TIMEOUT" in file.read(1 << 20)
    except OSError:
        return False
