"""One attempt: its directory, its identity and its exit record."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time

from leptond.attempt_files import layout
from leptond.base import durable, failpoints, procfs
from leptond.engines import protocol
from leptond.engines.shim import gate
from leptond.engines.shim.clock import boot_now
from leptond.engines.shim.command import Command
from leptond.engines.shim.directory import Directory
from leptond.engines.shim.kill import has_children
from leptond.engines.shim.memory import Memory
from leptond.engines.shim.output import Output
from leptond.engines.shim.relayed import RelayedCommand
from leptond.engines.shim.succession import Succession

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

BOOK_S = 0.25
"""The time that the daemon has to book an end before the exit record goes to the same disk."""


class Attempt:
    """One attempt, as its `launch` describes it. `cold_reason` as in
    :class:`~leptond.engines.shim.command.Command`."""

    def __init__(
        self, launch: dict[str, Any], cold_reason: Callable[[dict[str, Any]], str] | None = None
    ) -> None:
        self.launch = launch
        self.started_at = 0.0
        self.started_boot = 0.0
        self.succession = Succession()
        self.memory: Memory | None = None
        self._cold_reason = cold_reason
        self._synced = False
        self.record: dict[str, Any] = {
            "attempt_id": launch["attempt_id"],
            "boot_id": launch["boot_id"],
            "killed": False,
            "leftovers": 0,
            "unkillable": 0,
            "max_rss_bytes": 0,
            "cpu_s": 0.0,
        }

    # -- before the gate ---------------------------------------------------------------------------

    def identify(self) -> int:
        """Take the lock and write the shim's identity down; return its start time in clock ticks. Raises
        OSError."""
        failpoints.fp("shim_before_lock")
        self.directory = Directory(self.launch["standby"])
        self._lock = self.directory.open(layout.LOCK, os.O_RDWR | os.O_CREAT)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held until the shim ends, or is idle
        stat = procfs.read_stat(os.getpid())
        if stat is None:
            raise OSError(errno.ENOENT, "/proc does not show this process")
        self._identity: dict[str, Any] = {
            "boot_id": self.launch["boot_id"],
            "pid": os.getpid(),
            "start_ticks": stat.start_ticks,
            "attempt_id": self.launch["attempt_id"],
        }
        failpoints.fp("shim_before_identity")
        durable.reserve(self.directory.fd, layout.EXIT)
        self.directory.write(layout.IDENTITY, json.dumps(self._identity), sync=True)
        failpoints.fp("shim_after_identity")
        return stat.start_ticks

    def open(self) -> None:
        """Open what the output goes through, make the directory of the job, and fork the command's process
        where it is needed in advance. Raises OSError."""
        self._make_directory_of_job()
        self.output = Output(self.directory.fd, self.launch)
        if self.launch.get("relay"):
            self.command: Command = RelayedCommand(self.launch, self.output.write_end)
        else:
            self.command = Command(self.launch, self.output.write_end, self._cold_reason)
        if self.command.forks:
            self.command.fork()

    def _make_directory_of_job(self) -> None:
        """Make the directory that holds those of all attempts; where these run as their submitter, that
        account may pass through it. Raises OSError."""
        place = os.path.dirname(self.launch["directory"])
        try:
            os.mkdir(place, 0o750)
        except FileExistsError:
            pass
        if self.launch.get("submitter") is not None:
            os.chmod(place, 0o711)

    # -- the start ---------------------------------------------------------------------------------

    def take_place(self, claim: dict[str, Any]) -> None:
        """Become the attempt that the database knows, or will know: with its claim, and in a directory of
        its own, which says that the command was told to start. Durable only with :meth:`sync_place`. Raises
        OSError."""
        self._identity["claim"] = {**self.launch["claim"], **claim}
        failpoints.fp("shim_before_place")
        self.directory.write(layout.IDENTITY, json.dumps(self._identity), sync=False)
        place = self.launch["directory"]
        try:
            self.directory.move(place)
        except FileNotFoundError:  # a purge of the job's earlier attempts has taken it
            self._make_directory_of_job()
            self.directory.move(place)
        failpoints.fp("shim_after_place")

    def start(self, env: dict[str, str], cpus: list[int]) -> None:
        """Start the command with the environment and the CPUs of its assignment. Raises ExecFailed."""
        self.started_at, self.started_boot = time.time(), boot_now()
        limit = self.launch["time_limit_s"]
        if limit is not None:
            env["LEPTOND_DEADLINE"] = f"{self.started_at + limit:.3f}"
        failpoints.fp("shim_before_start")
        try:
            self.command.start(env, cpus)
        finally:
            self.record["start"] = self.command.mode
        if self.launch["cgroup"] or self.launch.get("mem_bytes") is not None:
            self.memory = Memory(self.launch, self.command.root, self.started_boot)
        failpoints.fp("shim_after_start")

    def dismiss(self) -> None:
        """Release what :meth:`open` made for a command that will not start."""
        self.command.dismiss()
        try:
            os.rmdir(os.path.dirname(self.launch["directory"]))
        except OSError:
            pass  # earlier attempts are in it

    def sync_place(self) -> None:
        """Make the directory durable, and the way to it. Not before the command runs, because it would wait
        for the disk. Raises OSError."""
        if not self._synced:
            self._sync_way()
            self.directory.sync()

    def _sync_way(self) -> None:
        """Make the way to the directory durable: a record in a directory that a power failure takes away is
        no record. Raises OSError."""
        if self._synced:
            return
        try:
            fd = self.directory.open(layout.IDENTITY, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as failure:
            if failure.errno not in (errno.ENOENT, errno.ELOOP):
                raise
            # the job has removed it
        else:
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        self.directory.sync_way()
        self._synced = True

    # -- the end -----------------------------------------------------------------------------------

    def finish(self, **values: object) -> bool:
        """Hand the slot on, where that is wanted, and report the end to the daemon, then write the exit
        record; try for as long as the disk is full and the daemon has not acknowledged the end. Return True
        if it has, and the record is there."""
        self.record.update(values, ended_at=time.time())
        self._clean_cgroups()
        claim = self._identity.get("claim")
        if claim is not None:
            self.record["handed_on"] = self.succession.hand_on(
                self.launch["attempt_id"], claim["gpus"], self.record
            )
        acknowledged = self._announce_end()
        failpoints.fp("shim_before_exit_record")
        while True:
            try:
                if not acknowledged and self.directory.put_in_place():
                    self._synced = False
                self._sync_way()
                self.directory.write(layout.EXIT, json.dumps(self.record), sync=True)
            except OSError:
                if acknowledged:
                    return False  # the database has it
                time.sleep(1.0)
            else:
                failpoints.fp("shim_after_exit_record")
                return acknowledged

    def leave(self) -> bool:
        """Let go of everything after the end. Return True if this process is as it was before the attempt."""
        record = self.record
        disturbed = record["killed"] or record["leftovers"] or record["unkillable"] or "stop_reason" in record
        if disturbed or has_children():
            return False
        self.succession.leave()
        self.output.close()
        os.close(self._lock)
        self.directory.close()
        return True

    def _announce_end(self) -> bool:
        """Send ENDED, and leave the disk to the daemon for a moment. Return True if it acknowledges."""
        failpoints.fp("shim_before_ended")
        if not gate.send(protocol.ENDED, json.dumps(self.record)):
            return False
        failpoints.fp("shim_after_ended")
        return gate.end_acknowledged_within(BOOK_S)

    def _clean_cgroups(self) -> None:
        """Read what the cgroups tell of memory, then remove them."""
        if self.memory is not None:
            self.memory.note(self.record)
        for group in filter(None, (self.launch["cgroup"], *self.launch.get("cgroups", ()))):
            for path, _, _ in os.walk(group, topdown=False):
                try:
                    os.rmdir(path)
                except OSError:
                    continue  # a process is still inside; the daemon's next start removes it
