"""Attempts as their own directories and /proc show them, without a database. Standard library alone: the
command line uses it too."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leptond.attempt_files import layout
from leptond.base import nofollow, procfs
from leptond.base.clock import kernel_boot_id


@dataclass(frozen=True, kw_only=True)
class OnDisk:
    """One directory jobs/JOB/NUMBER. `attempt_id` is empty where the shim did not get as far as writing
    its identity: then its command never started. `claim` is what it was claimed as (see engines/launch.py),
    empty in directories of 0.1.0; `exit` its exit record, if it has one; `held`: a shim has the lock of this
    very directory (of a copy it has not)."""

    job_id: int
    number: int
    attempt_id: str = ""
    boot_id: str = ""
    pid: int = 0
    start_ticks: int = 0
    claim: dict[str, Any] = field(default_factory=dict)
    exit: dict[str, Any] | None = None
    held: bool = True

    @property
    def alive(self) -> bool:
        """True if its shim is alive and still has this attempt: a shim takes another one only when it has
        left the exit record of this one, so a lock that looks free is no sign of an end."""
        return (self.held or self.exit is None) and is_alive(self.boot_id, self.pid, self.start_ticks)

    @property
    def process(self) -> tuple[str, int, int]:
        """The identity of its shim: boot id, pid, start time."""
        return self.boot_id, self.pid, self.start_ticks

    @property
    def elsewhere(self) -> bool:
        """True if it is alive and its shim has another directory: this one is a copy."""
        return not self.held and self.alive

    @property
    def name(self) -> str | None:
        """The job's name, where the directory knows it."""
        found = self.claim.get("job", {}).get("name")
        return found if isinstance(found, str) else None

    @property
    def gpu_indices(self) -> list[int]:
        """Indices of its GPUs."""
        return [gpu["index"] for gpu in self.claim.get("gpus", [])]

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object of this attempt."""
        keys = ("job_id", "number", "attempt_id", "boot_id", "pid", "start_ticks")
        return {
            **{key: getattr(self, key) for key in keys},
            "name": self.name,
            "gpus": self.claim.get("gpus", []),
        }


def is_alive(boot: str, pid: int | None, start_ticks: int | None) -> bool:
    """Return True if the process of this pid that started at that time in that boot is there. Raises OSError
    when that cannot be found out now."""
    if not pid or boot != kernel_boot_id():
        return False
    stat = procfs.read_stat(pid, strict=True)
    return stat is not None and not stat.ended and stat.start_ticks == start_ticks


def command_pid(shim: int) -> int | None:
    """Return the pid of the command under a shim: of its children that lead a session, the one that came
    first. (What a job left behind is adopted by the shim too, but came later.)"""
    leaders = []
    for pid in procfs.all_pids():
        stat = procfs.read_stat(pid)
        if stat is not None and not stat.ended and stat.parent == shim and stat.session == pid:
            leaders.append((stat.start_ticks, pid))
    return min(leaders)[1] if leaders else None


RECORD_BYTES = 4 * 1024 * 1024


def _json(directory: int, name: str) -> dict[str, Any] | None:
    """Return an object that the shim left; None when there is none, or something else in its place. Raises
    OSError when that cannot be found out now."""
    try:
        found = json.loads(nofollow.read_regular(name, directory, RECORD_BYTES))
    except OSError as error:
        if error.errno not in nofollow.ABSENT:
            raise
        return None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def is_held(directory: Path) -> bool:
    """Return True if a shim has the lock of this attempt's directory, which it keeps until it has left its
    record. Also where that is unknown: the job may have removed the file. False says nothing of the shim's
    life: in a copy of the directory no lock is held."""
    try:
        with nofollow.directory(directory) as fd:
            return _is_held(fd)
    except OSError:
        return True


def _is_held(directory: int) -> bool:
    try:
        fd = nofollow.open_regular(layout.LOCK, directory)
    except OSError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def numbers(directory: Path) -> list[int]:
    """Return the entries of `directory` that are numbers, in order; none when it does not exist."""
    try:
        with os.scandir(directory) as entries:
            return sorted(
                int(entry.name)
                for entry in entries
                if entry.name.isascii() and entry.name.isdecimal() and entry.name == str(int(entry.name))
            )
    except (FileNotFoundError, NotADirectoryError):
        return []


def read(jobs_dir: Path, job_id: int, number: int) -> OnDisk:
    """Return what one attempt's directory holds. Raises OSError when that cannot be found out now: nothing
    may be taken for gone then."""
    try:
        with nofollow.directory(jobs_dir / str(job_id) / str(number)) as fd:
            who, end, held = _json(fd, layout.IDENTITY) or {}, _json(fd, layout.EXIT), _is_held(fd)
            ours = os.fstat(fd).st_uid == os.geteuid()
    except OSError as error:
        if error.errno not in nofollow.ABSENT:
            raise
        return OnDisk(job_id=job_id, number=number)
    claim = who.get("claim")
    try:
        return OnDisk(
            job_id=job_id,
            number=number,
            attempt_id=str(who.get("attempt_id") or (end or {}).get("attempt_id") or ""),
            boot_id=str(who.get("boot_id") or (end or {}).get("boot_id") or ""),
            pid=int(who.get("pid") or 0),
            start_ticks=int(who.get("start_ticks") or 0),
            claim=_believed(claim, ours=ours) if isinstance(claim, dict) else {},
            exit=end,
            held=held,
        )
    except (TypeError, ValueError):  # not what a shim writes
        return OnDisk(job_id=job_id, number=number)


def _believed(claim: dict[str, Any], *, ours: bool) -> dict[str, Any]:
    """Return a claim without the uid of its job's submitter, unless the directory is this user's own: another
    could have written what it likes."""
    job = claim.get("job")
    if ours or not isinstance(job, dict):
        return claim
    return {**claim, "job": {**job, "uid": None}}


def script(jobs_dir: Path, one: OnDisk) -> bytes | None:
    """Return the script that an attempt was claimed with, from its own copy; None where it has none, or not
    as it was."""
    wanted = (one.claim.get("job") or {}).get("script_sha256")
    directory = jobs_dir / str(one.job_id) / str(one.number) / layout.SCRIPT_DIR
    if not isinstance(wanted, str):
        return None
    try:
        for name in os.listdir(directory):  # noqa: PTH208 - pathlib costs milliseconds
            content = nofollow.read_file(directory / name, RECORD_BYTES)
            if hashlib.sha256(content).hexdigest() == wanted:
                return content
    except OSError:
        pass
    return None


def live_attempts(jobs_dir: Path) -> list[OnDisk]:
    """Return every attempt with a live shim, by job and number. Raises OSError when `jobs_dir` cannot be
    read."""
    os.scandir(jobs_dir).close()
    found = []
    for job_id in numbers(jobs_dir):
        for number in numbers(jobs_dir / str(job_id)):
            one = read(jobs_dir, job_id, number)
            if one.alive:
                found.append(one)
    busy = {one.process for one in found if one.held}
    return [one for one in found if one.held or one.process not in busy]


def has_another(jobs_dir: Path, process: tuple[str, int, int]) -> bool:
    """Return True if this shim (boot id, pid, start time) holds the lock of an attempt in `jobs_dir`. Raises
    OSError."""
    return any(
        one.held and one.exit is None and one.process == process
        for job_id in numbers(jobs_dir)
        for number in numbers(jobs_dir / str(job_id))
        for one in [read(jobs_dir, job_id, number)]
    )
