"""The supervision of a running command: output, wall-clock limit, stops, kills, reaping."""

from __future__ import annotations

import json
import os
import select
import signal

from leptond.attempt_files import layout
from leptond.base import failpoints, procfs
from leptond.engines.shim.clock import boot_now
from leptond.engines.shim.kill import Killer, has_children
from leptond.engines.shim.output import CHUNK
from leptond.engines.shim.stopping import Stopping, warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leptond.engines.shim.attempt import Attempt

POLL_CAP_S = 15.0
"""poll() sleeps by a clock that stands still in suspend, so the timers are checked at least so often."""
PLACE_S = 1.0
"""The time for which a command runs until its attempt's place is made durable. The place of one that ends
before is made durable with its exit record: its end does not wait for the disk."""
KILL_AGAIN_S = 0.05
"""The time from one round of killing to the next."""
LEFT_S = 0.02
"""The interval of looks at what a relay that is gone has left."""
LAST_OUTPUT_BYTES = 64 * 1024 * 1024
"""More than a pipe holds; for writers that cannot be killed."""


class Supervisor:
    """Follows an attempt from its start until its last process is gone."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._launch = attempt.launch
        self._record = attempt.record
        self._command = attempt.command.pid
        self._command_ended = False
        self._ended: float | None = None
        submitter = attempt.launch.get("submitter")
        uid = submitter["uid"] if submitter is not None else None
        self._root = attempt.command.root
        self._killer = Killer(attempt.launch["cgroup"], self._reap, uid, root=self._root)
        self._deadline: float | None = None
        self._warn_at: float | None = None
        self._stop_sent: float | None = None
        self._stopping: Stopping | None = None
        self._memory = attempt.memory
        self._kill_at: float | None = None
        self._give_up_at: float | None = None
        self._sync_at: float | None = attempt.started_boot + PLACE_S
        limit = self._launch["time_limit_s"]
        if limit is not None:
            self._deadline = attempt.started_boot + limit
            if self._launch["warn_before_s"] is not None:
                self._warn_at = self._deadline - self._launch["warn_before_s"]

    def watch(self, wake: int) -> None:
        """Return when the last process is gone, or cannot be killed. `wake` is where signals are heard of."""
        output = self._attempt.output
        poll = select.poll()
        poll.register(output.fd, select.POLLIN)
        poll.register(wake, select.POLLIN)
        output_open = True
        ends_at = self._attempt.command.ends_at
        if ends_at is not None:
            poll.register(ends_at, select.POLLIN)
        while self._reap():
            if ends_at is not None and self._attempt.command.ends_at is None:
                poll.unregister(ends_at)
                ends_at = None
            now = boot_now()
            self._run_timers(now)
            if self._give_up_at is not None and now >= self._give_up_at:
                self._record["unkillable"] = len(procfs.descendants(self._root))
                break
            for fd, _ in poll.poll(self._timeout_ms(now)):
                if fd == wake:
                    if signal.SIGUSR1 in os.read(wake, 4096):
                        self._read_stop()
                elif fd == output.fd and output_open and not output.copy(8):
                    poll.unregister(output.fd)
                    output_open = False
        output.copy(LAST_OUTPUT_BYTES // CHUNK)  # what is left in the pipe, or what an unkillable one writes
        output.marks.send()
        self._close_stopping()

    def _reap(self) -> bool:
        """Collect what has ended; True while any process is left."""
        ended, left = self._attempt.command.collect()
        for one in ended:
            self._record["cpu_s"] += one.cpu_s
            self._record["max_rss_bytes"] = max(self._record["max_rss_bytes"], one.rss_bytes)
            if one.pid == self._command:
                self._note_end(one.status)
        return left

    def _note_end(self, status: int) -> None:
        """The command has ended: record its status. At an ordinary end, end what it leaves behind; at a stop
        that has its grace as well."""
        failpoints.fp("shim_command_ended")
        self._command_ended = True
        self._ended = boot_now()
        self._record["run_s"] = self._ended - self._attempt.started_boot
        if os.WIFSIGNALED(status):
            self._record["signal"] = os.WTERMSIG(status)
        else:
            self._record["exit_code"] = os.WEXITSTATUS(status)
        self._deadline = self._warn_at = self._sync_at = None
        if self._stop_sent is not None:
            return
        # its leftovers have become children of the shim, so without a child there are none
        own = self._root == os.getpid()
        left = procfs.descendants(self._root) if has_children() or not own else {}
        # what ends with the command by itself is none of them
        left = {pid: group for pid, group in left.items() if not procfs.is_dying(pid)}
        if left:
            # leftovers would keep the GPUs: they get a moment to end, then they are killed
            self._record["leftovers"] = len(left)
            self._kill_at = boot_now() + self._launch["linger_s"]
            self._begin_stop(self._launch["linger_s"])

    def _run_timers(self, now: float) -> None:
        marks = self._attempt.output.marks
        if marks.due is not None and now >= marks.due:
            marks.send()
        if self._sync_at is not None and now >= self._sync_at:
            self._sync_at = None
            try:
                self._attempt.sync_place()
            except OSError:
                pass  # tried again with the exit record
        if self._warn_at is not None and now >= self._warn_at:
            self._warn_at = None
            self._warn()
        if self._deadline is not None and now >= self._deadline:
            self._deadline = None
            self._stop("timeout", self._launch["grace_s"])
        if self._memory is not None and self._memory.due is not None and now >= self._memory.due:
            used = self._memory.look(now)
            if used and self._kill_at is None:
                self._record["over_memory_bytes"] = used
                self._kill_at = now
        if self._stopping is not None:
            self._stopping.look(now)
        if self._kill_at is not None and now >= self._kill_at:
            if self._give_up_at is None:
                self._give_up_at = now + self._launch["kill_timeout_s"]
                self._record["killed"] = True
                self._record["killed_processes"] = len(procfs.descendants(self._root))
                since = self._stop_sent if self._stop_sent is not None else self._ended
                self._record["killed_after_s"] = round(now - since, 1) if since is not None else None
                self._close_stopping()
            failpoints.fp("shim_before_kill")
            self._killer.round()
            failpoints.fp("shim_after_kill")
            self._kill_at = now + KILL_AGAIN_S  # until nothing is left

    def _timeout_ms(self, now: float) -> float:
        timers = (
            self._sync_at,
            self._warn_at,
            self._deadline,
            self._kill_at,
            self._give_up_at,
            self._stopping.due if self._stopping is not None else None,
            self._attempt.output.marks.due,
            self._memory.due if self._memory is not None else None,
        )
        due = [at for at in timers if at is not None]
        if self._root != os.getpid() and self._attempt.command.ends_at is None:
            due.append(now + LEFT_S)  # nothing tells that the last one has gone
        if not due:
            return POLL_CAP_S * 1000
        return max(0.0, min(POLL_CAP_S, min(due) - now)) * 1000 + 1

    def _read_stop(self) -> None:
        for text in self._attempt.directory.texts(layout.STOP):
            try:
                wanted = json.loads(text)
                reason, grace_s = str(wanted["reason"]), float(wanted["grace_s"])
                ours = wanted["attempt_id"] == self._launch["attempt_id"] and grace_s >= 0
            except (ValueError, TypeError, KeyError):
                continue  # a signal of another origin, or a file that the job has written
            if ours:
                self._stop(reason, grace_s)

    def _stop(self, reason: str, grace_s: float) -> None:
        """Send SIGTERM once; a second request can only bring the kill nearer."""
        if self._stop_sent is None:
            failpoints.fp("shim_before_term")
            self._stop_sent = boot_now()
            if not self._command_ended:
                self._record["stop_reason"] = reason
                self._record["stop_sent_after_s"] = self._stop_sent - self._attempt.started_boot
                self._warn_at = None
                if grace_s > 0:
                    self._begin_stop(grace_s)
            failpoints.fp("shim_after_term")
        kill_at = self._stop_sent + grace_s
        self._kill_at = kill_at if self._kill_at is None else min(self._kill_at, kill_at)

    def _begin_stop(self, grace_s: float) -> None:
        self._stopping = Stopping(grace_s=grace_s, linger_s=self._launch["linger_s"], root=self._root)
        self._stopping.begin()

    def _warn(self) -> None:
        """Send the warning before the limit to those that hear it, or to the batch script alone."""
        number = self._launch["warn_signal"]
        self._record["warned"] = warn(
            number, self._command if self._launch.get("warn_batch") else None, root=self._root
        )
        self._record["warn_signal"] = number

    def _close_stopping(self) -> None:
        if self._stopping is not None:
            self._record["leftovers"] += self._stopping.swept
            self._stopping.close()
            self._stopping = None
