"""The shim: one small process per attempt, parent of the user's command, alive whatever becomes of the
daemon.

It runs as ``python -I -S -X utf8 shim.py`` with the gate (a socket) on fd 3 and the launch description
(JSON in a memory file) on fd 4, uses the standard library alone, and goes through these steps:

1. becomes subreaper, takes the lock of the attempt's directory, writes ``identity.json`` durably, opens the
   log, forks the process that will become the command, says READY through the gate. All this is in
   the standby directory, which no attempt is known by;
2. waits at the gate, for as long as it takes. GO comes with the GPUs: the directory gets its place, with a
   claim in ``identity.json``, and the command starts. End of file: the daemon is gone or has changed its
   mind, and the command never starts;
3. copies output into the log within its budget, keeps the wall-clock limit and the escalation of a stop
   by boot time, reaps every descendant;
4. when the last process is gone, says ENDED, so that the daemon need not wait for the disk; then leaves
   ``exit.json``: written aside, synced, renamed, directory synced;
5. where all went well and the launch says ``again``, it keeps nothing of the attempt, says RESTING, and waits
   for the next one: a LAUNCH with its description. End of file: it ends. A zygote's shim whose first
   description is empty begins here.

A stop comes as ``stop.json`` in the attempt's directory plus SIGUSR1, so that it survives a crash between
the two. All other signals to the shim are ignored: its job is to outlive.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import re
import resource
import select
import signal
import subprocess
import sys
import time

GATE_FD = 3
LAUNCH_FD = 4
CHUNK = 256 * 1024
POLL_CAP_S = 15.0  # poll() sleeps by a clock that stands still in suspend; look again now and then
CHASE_S = 0.02  # how long one round looks for what forks and exits faster than /proc is listed
LAST_OUTPUT_BYTES = 64 * 1024 * 1024  # more than a pipe holds; for writers that cannot be killed
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
BOOK_S = 0.25  # how long the daemon may take to book an end before the exit record goes to the same disk
RECORD_BYTES = 4096  # more than an exit record needs
MARK = b"::leptond "
MARK_LINE = re.compile(rb"^::leptond ([^\n]*)\n", re.MULTILINE)
MARK_S = 0.2  # shortest time between two messages about marker lines
MARK_BYTES = 2048
RLIMIT_LOCKS = 10  # has had no effect since Linux 2.4.25, but is inherited and shown in /proc/PID/limits
SHELLS = frozenset({"sh", "bash", "dash", "zsh", "fish", "ksh", "ash", "busybox"})


USES = 200  # attempts of one shim: whatever an interpreter gathers over time goes with it

rename: object = None
"""Shows another attempt's id as ours in /proc, where that is possible (leptond/engines/zygote.py)."""

in_place: object = None
"""In a process that has the job's imports behind it (leptond/engines/inplace.py): why the command of a launch
must start cold, or nothing."""


class InPlace(BaseException):
    """The command's process is ready for its command, which it runs itself. Carries the launch."""


def fp(_name: str) -> None:
    """A place where tests break the protocol (leptond/base/failpoints.py). Does nothing in a release."""


def arm_failpoints(path: str, text: str) -> None:
    """Only for a daemon that runs with ``--unsafe-failpoints``."""
    names: dict = {"__name__": "failpoints"}  # type: ignore[type-arg]
    with open(path) as file:
        exec(compile(file.read(), path, "exec"), names)
    names["arm"](text)
    globals()["fp"] = names["fp"]


def boot_now() -> float:
    """Seconds of CLOCK_BOOTTIME."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def write_durably(directory: str, name: str, text: str) -> None:
    """`directory`/`name` holds the whole of `text` after a crash, or is not there. Raises OSError."""
    write_whole(directory, name, text, sync=True)
    sync_directory(directory)


def write_whole(directory: str, name: str, text: str, *, sync: bool) -> None:
    """Whoever reads `directory`/`name` finds the whole of `text`, or what was there before; after a crash of
    the machine only with `sync`. Raises OSError."""
    temporary = os.path.join(directory, f".{name}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        data = text.encode()
        write_all(fd, data)
        os.ftruncate(fd, len(data))  # after the write: what was reserved for it is not given back before
        if sync:
            os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, os.path.join(directory, name))


def sync_directory(directory: str) -> None:
    """The names in `directory` are durable. Raises OSError."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def reserve(directory: str, name: str) -> None:
    """Room for a later `write_durably` of the same name: it needs none any more, however full the disk is."""
    temporary = os.path.join(directory, f".{name}.tmp")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.posix_fallocate(fd, 0, RECORD_BYTES)
        finally:
            os.close(fd)
    except OSError:
        pass  # then it has to wait for room, like any other write


def stat_fields(pid: int | str) -> list[str] | None:
    """Fields of /proc/PID/stat from the third on (state, ppid, ...); None when the process is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return None
    return text[text.rfind(")") + 2 :].split()


def ended(fields: list[str]) -> bool:
    """Whether these fields of a stat show a process that only waits to be collected. One whose main thread
    has ended looks like a zombie too, but its other threads go on (field 20 counts them)."""
    return fields[0] in "ZX" and int(fields[17]) <= 1


def descendants(root: int) -> dict[int, int]:
    """Pid and process group of every process below `root`, zombies left out."""
    found: dict[int, list[str]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            fields = stat_fields(entry)
            if fields is not None:
                found[int(entry)] = fields
    children: dict[int, list[int]] = {}
    for pid, fields in found.items():
        children.setdefault(int(fields[1]), []).append(pid)
    below: dict[int, int] = {}
    fresh = [root]
    while fresh:
        for pid in children.get(fresh.pop(), ()):
            fresh.append(pid)
            if not ended(found[pid]):
                below[pid] = int(found[pid][2])
    return below


class Log:
    """The output of an attempt within a budget: the head in ``output.log``, and, past half of the budget,
    the tail in segments of a quarter each, named by the offset they begin at; the oldest goes first."""

    def __init__(self, directory: str, budget: int) -> None:
        self.directory = directory
        self.head_limit = budget // 2
        self.segment_limit = max(1, budget // 4)
        self.total = 0
        self.dropped = 0
        self.room = self.head_limit
        self.segments: list[tuple[str, int]] = []  # name and stored bytes of the tail, oldest first
        self.fd = self._create("output.log")

    def _create(self, name: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(os.path.join(self.directory, name), flags, 0o640)

    def _next_segment(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        while len(self.segments) > 1:
            name, stored = self.segments.pop(0)
            os.unlink(os.path.join(self.directory, name))
            self.dropped += stored
        name = f"output.{self.total:016d}.log"
        self.fd = self._create(name)
        self.segments.append((name, 0))
        self.room = self.segment_limit

    def write(self, data: bytes) -> None:
        """Stores `data`, or counts it as dropped when the disk does not take it: the job is never held
        up by its own output."""
        while data:
            try:
                if self.room == 0 or self.fd < 0:
                    self._next_segment()
                stored = os.write(self.fd, data[: self.room])
            except OSError:
                # what follows goes to a new segment, so that offsets stay true
                if self.fd >= 0:
                    os.close(self.fd)
                    self.fd = -1
                self.total += len(data)
                self.dropped += len(data)
                return
            self.total += stored
            self.room -= stored
            if self.segments:
                name, before = self.segments[-1]
                self.segments[-1] = (name, before + stored)
            data = data[stored:]


class Marks:
    """Passes marker lines of the output (``::leptond step=3 loss=1.2``) on to the daemon's report channel,
    unread, five times a second at most, and without ever waiting: lines that pile up go together, and where
    nobody listens they are dropped. Output without marks costs one search through each chunk."""

    def __init__(self, path: str, attempt_id: str) -> None:
        self.path = path
        self.attempt_id = attempt_id
        self.pending = b""
        self.due: float | None = None
        self.sent_at = 0.0
        self.rest: bytes | None = b""  # a line's beginning that may be ours; None: in the middle of another

    def look(self, data: bytes) -> None:
        """Takes the next output in."""
        if self.rest is None:
            data = data[data.find(b"\n") + 1 :] if b"\n" in data else b""
            if not data:
                return
            self.rest = b""
        data = self.rest + data
        end = data.rfind(b"\n") + 1
        tail = data[end:]
        ours = len(tail) < MARK_BYTES and tail[: len(MARK)] == MARK[: len(tail)]
        self.rest = tail if ours else None
        if MARK in data:
            lines = MARK_LINE.findall(data, 0, end)
            if lines:
                self.pending = b" ".join([self.pending, *lines])[-MARK_BYTES:]
                self.due = self.sent_at + MARK_S

    def send(self) -> None:
        """Sends what is pending."""
        if not self.pending:
            return
        text = self.pending.decode("utf-8", "replace")
        self.pending, self.due, self.sent_at = b"", None, boot_now()
        body = {"v": 1, "attempt": self.attempt_id, "at": time.time(), "line": text}
        try:
            import socket  # only jobs that print marks pay for it

            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as channel:
                channel.sendto(json.dumps(body).encode(), self.path)
        except OSError:
            pass


class Attempt:
    """One attempt from READY to its exit record."""

    def __init__(self, launch: dict) -> None:  # type: ignore[type-arg]
        self.launch = launch
        self.directory: str = launch["standby"]
        self.main = 0
        self.main_done = False
        self.settled = False
        self.started_at = 0.0
        self.started_boot = 0.0
        self.deadline: float | None = None
        self.warn_at: float | None = None
        self.stop_reason: str | None = None
        self.stop_sent: float | None = None
        self.kill_at: float | None = None
        self.give_up_at: float | None = None
        self.signalled: set[int] = set()  # has been sent a SIGKILL
        self.record: dict = {  # type: ignore[type-arg]
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
        """Takes the lock and writes down who we are; our start time in clock ticks."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fp("shim_before_lock")
        self.lock = os.open(os.path.join(self.directory, "lock"), flags, 0o600)
        fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held until we end, or rest
        fields = stat_fields(os.getpid())
        if fields is None:
            raise OSError(errno.ENOENT, "/proc does not show this process")
        ticks = int(fields[19])
        self.identity = {
            "boot_id": self.launch["boot_id"],
            "pid": os.getpid(),
            "start_ticks": ticks,
            "attempt_id": self.launch["attempt_id"],
        }
        fp("shim_before_identity")
        reserve(self.directory, "exit.json")
        write_durably(self.directory, "identity.json", json.dumps(self.identity))
        fp("shim_after_identity")
        return ticks

    def open(self) -> None:
        """Opens what the output goes through, and makes the directory of the job. Raises OSError."""
        try:
            os.mkdir(os.path.dirname(self.launch["directory"]), 0o750)
        except FileExistsError:
            pass
        self.output, self.output_write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.output, False)
        self.log = Log(self.directory, self.launch["log_max_bytes"])
        self.marks = Marks(self.launch.get("report_socket", ""), self.launch["attempt_id"])

    def take_place(self, assignment: dict) -> None:  # type: ignore[type-arg]
        """Becomes the attempt that the database knows, or will know: with its claim, and in a directory of
        its own, which says that the command was told to start. Durable only with :meth:`settle`. Raises
        OSError."""
        self.assignment = assignment
        self.identity["claim"] = {**self.launch["claim"], **assignment["claim"]}
        fp("shim_before_place")
        write_whole(self.directory, "identity.json", json.dumps(self.identity), sync=False)
        place = self.launch["directory"]
        try:
            os.rename(self.directory, place)
        except FileNotFoundError:  # a purge of the job's earlier attempts has taken it
            os.mkdir(os.path.dirname(place), 0o750)
            os.rename(self.directory, place)
        self.directory = self.log.directory = place
        fp("shim_after_place")

    def settle(self) -> None:
        """Makes the way to our directory durable: a record in a directory that a power failure takes away is
        no record. Not before the command runs, because it would wait for the disk. Raises OSError."""
        if not self.settled:
            try:
                fd = os.open(os.path.join(self.directory, "identity.json"), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                pass  # the job has removed it
            else:
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)
            sync_directory(self.directory)
            job = os.path.dirname(self.directory)
            sync_directory(job)
            sync_directory(os.path.dirname(job))
            self.settled = True

    def finish(self, **values: object) -> bool:
        """Tells the daemon, then leaves the exit record; tries for as long as the disk is full and the daemon
        has not booked it. Whether it has, and the record is there."""
        self.record.update(values, ended_at=time.time())
        self.clean_cgroup()
        booked = self._tell()
        fp("shim_before_exit_record")
        while True:
            try:
                self.settle()
                write_durably(self.directory, "exit.json", json.dumps(self.record))
            except OSError as failure:
                if booked:
                    return False  # the database has it
                if failure.errno == errno.ENOENT:  # the job has removed its own directory
                    try:
                        os.makedirs(self.directory, 0o750)
                        continue
                    except OSError:
                        pass
                time.sleep(1.0)
            else:
                fp("shim_after_exit_record")
                return booked

    def leave(self) -> bool:
        """After the end: whether this process is as it was before the attempt. Nothing is kept open then."""
        record = self.record
        clean = not (record["killed"] or record["leftovers"] or record["unkillable"] or self.stop_reason)
        if not clean or has_children():
            return False
        for fd in (self.output, self.log.fd, self.lock):
            if fd >= 0:
                os.close(fd)
        return True

    def _tell(self) -> bool:
        """Says ENDED, and gives the daemon the disk for a moment: whether it has booked the end."""
        fp("shim_before_ended")
        if not report("ENDED " + json.dumps(self.record)):
            return False
        fp("shim_after_ended")
        poll = select.poll()
        poll.register(GATE_FD, select.POLLIN)
        if not poll.poll(BOOK_S * 1000):
            return False
        try:
            return os.read(GATE_FD, 16) == b"BOOKED\n"
        except OSError:
            return False

    # -- the command -------------------------------------------------------------------------------

    @property
    def forks(self) -> bool:
        """Whether the command's process has to do something itself before it becomes the command. All others
        are spawned at :meth:`start`: that copies nothing of us, and so takes less time."""
        return bool(self.launch["cgroup"]) or in_place is not None

    def fork(self) -> None:
        """Forks the process that becomes the command at :meth:`start`: so much of the way is behind it when
        the GPUs come free. Should we die before, it ends at the end of the pipe."""
        hold_read, self.hold = os.pipe2(os.O_CLOEXEC)
        self.failed, failed_write = os.pipe2(os.O_CLOEXEC)
        fp("shim_before_fork")
        self.main = os.fork()
        if self.main == 0:
            os.close(self.hold)
            self._become_command(hold_read, failed_write)
        fp("shim_after_fork")
        for fd in (hold_read, failed_write, self.output_write):
            os.close(fd)

    def dismiss(self) -> None:
        """The command will not start: what was forked for it ends."""
        if self.main:
            try:
                os.close(self.hold)
                os.waitpid(self.main, 0)
            except OSError:
                pass  # somebody has killed it
        try:
            os.rmdir(os.path.dirname(self.launch["directory"]))
        except OSError:
            pass  # earlier attempts are in it

    def start(self) -> None:
        """Starts the command in a session of its own. Raises ExecFailed."""
        self.started_at, self.started_boot = time.time(), boot_now()
        env: dict = self.assignment["env"]  # type: ignore[type-arg]
        limit = self.launch["time_limit_s"]
        if limit is not None:
            self.deadline = self.started_boot + limit
            env["LEPTOND_DEADLINE"] = f"{self.started_at + limit:.3f}"
            if self.launch["warn_before_s"] is not None:
                self.warn_at = self.deadline - self.launch["warn_before_s"]
        fp("shim_before_start")
        self.record["start"] = self.launch.get("start")
        if self.main:
            self._release(env)
        else:
            self._spawn(env)
        fp("shim_after_start")

    def _release(self, env: dict) -> None:  # type: ignore[type-arg]
        write_all(self.hold, json.dumps({"env": env, "cpus": self.assignment["cpus"]}).encode())
        os.close(self.hold)
        told = b""
        while part := os.read(self.failed, 65536):
            told += part
        os.close(self.failed)
        for number, text in map(json.loads, told.splitlines()):
            if number is not None:
                os.waitpid(self.main, 0)
                raise ExecFailed(number, text)
            self.record["start"] = text

    def _spawn(self, env: dict) -> None:  # type: ignore[type-arg]
        argv, cwd = self.launch["argv"], self.launch["cwd"]
        stay_near(self.assignment["cpus"])
        tag, free = self.launch["tag"], resource.getrlimit(RLIMIT_LOCKS)
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        set_limit(0, (tag, free[1]))  # passed on by birth: it may have children before we can say anything
        try:
            child = subprocess.Popen(
                argv,
                stdin=null,
                stdout=self.output_write,
                stderr=self.output_write,
                cwd=cwd,
                env={**self.launch["env"], **env, "PWD": cwd},
                close_fds=False,  # all of ours close by themselves
                start_new_session=True,  # a `kill 0` of the job must not reach us
                umask=self.launch["umask"],
            )
        except (OSError, ValueError) as failure:
            number = getattr(failure, "errno", None) or 0
            words = os.strerror(number) if number else str(failure)
            if getattr(failure, "filename", None) == cwd:
                text = f"cannot enter the directory {cwd}: {words}"
            else:
                missing = "command not found" if number == errno.ENOENT else words
                text = f"cannot execute {argv[0]}: {missing}"
            raise ExecFailed(number, text[:2000]) from None
        finally:
            set_limit(0, free)
            os.close(null)
            os.close(self.output_write)
        child.returncode = 0  # it is collected by us, and by nobody else
        self.main = child.pid
        set_limit(self.main, (tag, tag))

    def _become_command(self, hold: int, failed: int) -> None:
        argv, env = self.launch["argv"], self.launch["env"]
        stage = "start"
        try:
            os.setsid()  # a `kill 0` of the job must not reach us
            for number in range(1, signal.NSIG):
                if number not in (signal.SIGKILL, signal.SIGSTOP):
                    try:
                        signal.signal(number, signal.SIG_DFL)
                    except (OSError, ValueError):
                        continue  # reserved by the C library
            if self.launch["cgroup"]:
                stage = "enter its cgroup"
                with open(os.path.join(self.launch["cgroup"], "cgroup.procs"), "w") as file:
                    file.write("0")
            set_limit(0, (self.launch["tag"], self.launch["tag"]))
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, 0)
            os.dup2(self.output_write, 1)
            os.dup2(self.output_write, 2)
            os.umask(self.launch["umask"])
            told = read_to_end(hold)
            if not told:
                os._exit(0)
            assignment = json.loads(told)
            stay_near(assignment["cpus"])
            env.update(assignment["env"])
            stage = f"enter the directory {self.launch['cwd']}"
            os.chdir(self.launch["cwd"])
            env["PWD"] = self.launch["cwd"]
            stage = f"execute {argv[0]}"
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            if in_place is not None:
                self._if_in_place(failed)
            os.execvpe(argv[0], argv, env)
        except InPlace:
            raise
        except BaseException as failure:
            number = getattr(failure, "errno", None) or 0
            words = os.strerror(number) if number else str(failure)
            if number == errno.ENOENT and stage.startswith("execute"):
                words = "command not found"
            text = f"cannot {stage}: {words}"
            try:
                os.write(failed, json.dumps([number, text[:2000]]).encode())
            finally:
                os._exit(127)

    def _if_in_place(self, failed: int) -> None:
        """Says how the command starts; raises InPlace where this process runs it."""
        why = in_place(self.launch)  # type: ignore[operator]
        os.write(failed, json.dumps([None, f"cold: {why}" if why else "warm"]).encode() + b"\n")
        if not why:
            os.close(failed)
            raise InPlace(self.launch)

    # -- the watch ---------------------------------------------------------------------------------

    def watch(self, wake: int) -> None:
        """Until the last process is gone: output, limits, stops, reaping."""
        poll = select.poll()
        poll.register(self.output, select.POLLIN)
        poll.register(wake, select.POLLIN)
        output_open = True
        while True:
            alive = self._reap()
            if not alive:
                break
            now = boot_now()
            self._timers(now)
            if self.give_up_at is not None and now >= self.give_up_at:
                self.record["unkillable"] = len(descendants(os.getpid()))
                break
            for fd, _ in poll.poll(self._timeout_ms(now)):
                if fd == wake:
                    if signal.SIGUSR1 in os.read(wake, 4096):
                        self._read_stop()
                elif output_open and not self._copy(8):
                    poll.unregister(self.output)
                    output_open = False
        self._copy(LAST_OUTPUT_BYTES // CHUNK)  # what is left in the pipe, or what an unkillable one writes
        self.marks.send()

    def _copy(self, chunks: int) -> bool:
        """Moves up to `chunks` chunks into the log; False at the end of the output."""
        for _ in range(chunks):
            try:
                data = os.read(self.output, CHUNK)
            except BlockingIOError:
                return True
            if not data:
                return False
            self.log.write(data)
            self.marks.look(data)
        return True

    def _reap(self) -> bool:
        """Collects what has ended; whether any process is left."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            self.record["cpu_s"] += usage.ru_utime + usage.ru_stime
            self.record["max_rss_bytes"] = max(self.record["max_rss_bytes"], usage.ru_maxrss * 1024)
            if pid == self.main:
                self._main_ended(status)

    def _main_ended(self, status: int) -> None:
        fp("shim_command_ended")
        self.main_done = True
        self.record["run_s"] = boot_now() - self.started_boot
        if os.WIFSIGNALED(status):
            self.record["signal"] = os.WTERMSIG(status)
        else:
            self.record["exit_code"] = os.WEXITSTATUS(status)
        self.deadline = self.warn_at = None
        # what it leaves behind has become our child, so without a child there is nothing to look for
        left = descendants(os.getpid()) if has_children() else {}
        if left:
            # what a job leaves behind would keep its GPUs: it gets a moment to end, then it is killed
            self.record["leftovers"] = len(left)
            for pid in left:
                send(pid, signal.SIGTERM)
            end = boot_now() + self.launch["linger_s"]
            self.kill_at = end if self.kill_at is None else min(self.kill_at, end)

    def _timers(self, now: float) -> None:
        if self.marks.due is not None and now >= self.marks.due:
            self.marks.send()
        if self.warn_at is not None and now >= self.warn_at:
            self.warn_at = None
            self._signal_command(self.launch["warn_signal"])
        if self.deadline is not None and now >= self.deadline:
            self.deadline = None
            self._stop("timeout", self.launch["grace_s"])
        if self.kill_at is not None and now >= self.kill_at:
            if self.give_up_at is None:
                self.give_up_at = now + self.launch["kill_timeout_s"]
                self.record["killed"] = True
            fp("shim_before_kill")
            self._kill_all()
            fp("shim_after_kill")
            self.kill_at = now + 0.05  # until nothing is left

    def _timeout_ms(self, now: float) -> float:
        timers = (self.warn_at, self.deadline, self.kill_at, self.give_up_at, self.marks.due)
        due = [at for at in timers if at is not None]
        if not due:
            return POLL_CAP_S * 1000
        return max(0.0, min(POLL_CAP_S, min(due) - now)) * 1000 + 1

    def _read_stop(self) -> None:
        try:
            with open(os.path.join(self.directory, "stop.json")) as file:
                wanted = json.load(file)
            reason, grace_s = str(wanted["reason"]), float(wanted["grace_s"])
            ours = wanted["attempt_id"] == self.launch["attempt_id"] and grace_s >= 0
        except (OSError, ValueError, TypeError, KeyError):
            return  # a signal from somebody else, or a file that the job has written
        if ours:
            self._stop(reason, grace_s)

    def _stop(self, reason: str, grace_s: float) -> None:
        """SIGTERM once; a second request can only bring the kill nearer."""
        if self.stop_sent is None:
            fp("shim_before_term")
            self.stop_sent = boot_now()
            if not self.main_done:
                self.stop_reason = reason
                self.record["stop_reason"] = reason
                self.record["stop_sent_after_s"] = self.stop_sent - self.started_boot
                if grace_s > 0:
                    self._signal_command(signal.SIGTERM)
            fp("shim_after_term")
        kill_at = self.stop_sent + grace_s
        self.kill_at = kill_at if self.kill_at is None else min(self.kill_at, kill_at)

    def _signal_command(self, number: int) -> None:
        """The command itself decides what its workers are told. A shell passes no signal on, so behind a
        shell its direct children get it too."""
        if self.main_done:
            return
        targets = [self.main]
        try:
            with open(f"/proc/{self.main}/comm") as file:
                shell = file.read().strip() in SHELLS
        except OSError:
            shell = False
        if shell:
            targets += [pid for pid in descendants(self.main) if parent(pid) == self.main]
        for pid in reversed(targets):
            send(pid, number)
            send(pid, signal.SIGCONT)

    def _kill_all(self) -> None:
        cgroup = self.launch["cgroup"]
        if cgroup:
            try:
                with open(os.path.join(cgroup, "cgroup.kill"), "w") as file:
                    file.write("1")
            except OSError:
                pass  # before Linux 5.14; the walk below does it
        # stopped first, so that nothing forks away while the rest is being killed
        seen: set[int] = set()
        for _ in range(20):
            fresh = {pid: group for pid, group in descendants(os.getpid()).items() if pid not in seen}
            if not fresh:
                break
            for pid in fresh:
                send(pid, signal.SIGSTOP)
            seen.update(fresh)
        left = descendants(os.getpid())
        for pid, group in left.items():
            send(pid, signal.SIGKILL)
            self._kill_group(group)
        if not left or not left.keys() <= self.signalled:
            self._chase()
        self.signalled.update(left)

    def _kill_group(self, group: int) -> None:
        """The kernel signals a group and lets nobody fork meanwhile. All members are of the command's
        sessions: nobody joins a group of another session."""
        if group > 1 and group != os.getpgrp():
            try:
                os.killpg(group, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass

    def _chase(self) -> None:
        """Catches what forks and exits faster than /proc can be listed: the newest pid of the machine is
        in /proc/loadavg, and one look at it costs microseconds."""
        end = boot_now() + CHASE_S
        us = os.getpid()
        while self._reap() and boot_now() < end:
            with open("/proc/loadavg", "rb") as file:
                newest = int(file.read().split()[-1])
            for pid in range(newest, max(1, newest - 4), -1):
                fields = stat_fields(pid)
                if fields is None or ended(fields):
                    continue
                above = int(fields[1])
                if above == us or (above > 1 and parent(above) == us):
                    send(pid, signal.SIGKILL)
                    self._kill_group(int(fields[2]))

    def clean_cgroup(self) -> None:
        """Reads the evidence of an out-of-memory kill, then removes the cgroup."""
        cgroup = self.launch["cgroup"]
        if not cgroup:
            return
        try:
            with open(os.path.join(cgroup, "memory.events")) as file:
                events = dict(line.split() for line in file)
            self.record["oom_kills"] = int(events.get("oom_kill", 0))
        except (OSError, ValueError):
            pass  # no memory controller
        for path, _, _ in os.walk(cgroup, topdown=False):
            try:
                os.rmdir(path)
            except OSError:
                continue  # somebody is still inside; the daemon's next start removes it


def set_limit(pid: int, limits: tuple) -> None:  # type: ignore[type-arg]
    """Gives a process (0: this one) the limit that is its attempt's tag: what a cleared environment and a new
    session do not take off."""
    try:
        resource.prlimit(pid, RLIMIT_LOCKS, limits)
    except (OSError, ValueError):
        pass  # somebody has set a lower one, or it is gone: the cookie and the session have to do


class ExecFailed(Exception):
    """The command could not be executed."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)
        self.number = number
        self.text = text


def stay_near(cpus: list) -> None:  # type: ignore[type-arg]
    """Keeps this process, and all that comes of it, on those of `cpus` that it may use: the ones near its
    GPUs. It is a matter of speed, so a machine that does not let us is no reason not to start."""
    allowed = os.sched_getaffinity(0) & set(cpus)
    try:
        if allowed:
            os.sched_setaffinity(0, allowed)
    except OSError as failure:
        sys.stderr.write(f"the job is not kept near its GPUs: {failure}\n")
        sys.stderr.flush()


def send(pid: int, number: int) -> None:
    """Signals a descendant. We are its reaper, so its pid cannot have been given to somebody else while
    it is in our tree and we have not collected it."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def has_children() -> bool:
    """Whether this process has any, ended or not."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def parent(pid: int) -> int:
    """Its parent's pid; 0 when it is gone."""
    fields = stat_fields(pid)
    return int(fields[1]) if fields is not None else 0


def read_all(fd: int) -> bytes:
    """The whole of a file from its beginning."""
    os.lseek(fd, 0, os.SEEK_SET)
    return read_to_end(fd)


def read_to_end(fd: int) -> bytes:
    """What there is until the end of the file."""
    data = b""
    while part := os.read(fd, 1 << 20):
        data += part
    return data


def write_all(fd: int, data: bytes) -> None:
    """The whole of `data`. Raises OSError."""
    while data:
        data = data[os.write(fd, data) :]


def main() -> None:
    """Runs the attempt on fd 4, if there is one, and the next ones that are said at the gate."""
    wake = settle_in()
    launch = json.loads(read_all(LAUNCH_FD))
    os.close(LAUNCH_FD)
    cpus = os.sched_getaffinity(0)
    for use in range(USES):
        if launch:
            if not run(launch, wake) or not launch.get("again") or rename is None or use == USES - 1:
                return
            try:
                os.sched_setaffinity(0, cpus)
            except OSError:
                return  # they are not ours any more
            os.dup2(0, 2)
            rename("")  # type: ignore[operator]
            if not report("RESTING"):
                return
        elif rename is None:
            return
        told = read_line()
        if not told.startswith(b"LAUNCH "):
            return
        launch = json.loads(told[7:])
        rename(launch["attempt_id"])  # type: ignore[operator]
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        errors = os.open(os.path.join(launch["standby"], "shim.log"), flags, 0o600)
        os.dup2(errors, 2)
        os.close(errors)


def settle_in() -> int:
    """Gets ready to be a parent of whatever comes. Where signals are heard of."""
    # heard and let pass, because what is ignored would be ignored by the command too
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
    for fd in (GATE_FD, LAUNCH_FD):
        os.set_inheritable(fd, False)
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot become subreaper")
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("0")  # the daemon may be protected; the job must not be
    except OSError:
        pass
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)  # no job of the same user may trace us
    return wake_read


def run(launch: dict, wake: int) -> bool:  # type: ignore[type-arg]
    """Runs one attempt. Whether its end is booked and recorded, and nothing is left of it in this process."""
    if "failpoints" in launch:
        arm_failpoints(*launch["failpoints"])
    fp("shim_begin")
    attempt = Attempt(launch)
    try:
        ticks = attempt.identify()
        attempt.open()
        if attempt.forks:
            attempt.fork()
    except OSError as failure:
        report(f"CANNOT {failure.errno} {failure}")
        raise
    report(f"READY {ticks}")
    fp("shim_after_ready")
    answer = read_line()
    fp("shim_after_gate")
    if not answer.startswith(b"GO "):
        attempt.dismiss()
        attempt.finish(never_started=True)
        return False
    try:
        attempt.take_place(json.loads(answer[3:]))
        attempt.start()
    except ExecFailed as failure:
        report(f"FAILED {failure.text[:4000]}")
        attempt.finish(exec_error=failure.text, exec_errno=failure.number, started_at=attempt.started_at)
        return False
    except OSError as failure:  # no room on the disk
        attempt.dismiss()
        attempt.finish(exec_error=f"cannot start: {failure}", exec_errno=failure.errno)
        return False
    report(f"STARTED {attempt.main} {attempt.record['start'] or ''}")
    fp("shim_after_started")
    try:
        attempt.settle()
    except OSError:
        pass  # tried again with the exit record
    attempt.watch(wake)
    fp("shim_all_gone")
    recorded = attempt.finish(
        main_pid=attempt.main,
        started_at=attempt.started_at,
        log_bytes=attempt.log.total,
        log_dropped_bytes=attempt.log.dropped,
    )
    return recorded and attempt.leave()


def read_line() -> bytes:
    """A line of the daemon; what there is of it at the end of the connection."""
    answer = b""
    while not answer.endswith(b"\n"):
        try:
            part = os.read(GATE_FD, 65536)
        except ConnectionResetError:
            break
        if not part:
            break
        answer += part
    return answer if answer.endswith(b"\n") else b""


def report(text: str) -> bool:
    """A word to the daemon; False when it is not there."""
    try:
        os.write(GATE_FD, f"{text}\n".encode())
    except OSError:
        return False
    return True


if __name__ == "__main__":
    try:
        main()
    finally:
        sys.stderr.flush()
    os._exit(0)  # nothing is left to do: spare the interpreter's shutdown
