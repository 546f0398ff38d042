"""The user's command: how its process comes to be."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import sys

from leptond.base import failpoints
from leptond.base.durable import read_all, write_all
from leptond.engines.shim import identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

RLIMIT_LOCKS = 10
"""The limit that holds an attempt's tag: without effect since Linux 2.4.25, but inherited and shown in
/proc/PID/limits."""


class RunHere(BaseException):
    """The command's process is ready for its command, which it runs itself. Carries the launch."""


class ExecFailed(Exception):
    """The command could not be executed. `number` is the errno, 0 where there is none."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)
        self.number = number
        self.text = text


class Ended:
    """A process that has ended: its pid, its wait status, the seconds of CPU and the most bytes of memory
    that it has used."""

    __slots__ = ("cpu_s", "pid", "rss_bytes", "status")

    def __init__(self, pid: int, status: int, cpu_s: float, rss_bytes: int) -> None:
        self.pid = pid
        self.status = status
        self.cpu_s = cpu_s
        self.rss_bytes = rss_bytes


class Command:
    """The command of one attempt. Its output goes to the descriptor `output`. `cold_reason` is given in a
    process that has the job's imports behind it (leptond/engines/warm_runner.py): why the command of a launch
    must start cold, or an empty string."""

    def __init__(
        self, launch: dict[str, Any], output: int, cold_reason: Callable[[dict[str, Any]], str] | None
    ) -> None:
        self._launch = launch
        self._output = output
        self._cold_reason = cold_reason
        self.pid = 0
        self.mode: str | None = launch.get("start")
        """How it starts, as far as is known: ``warm``, or ``cold: WHY``."""
        self.root = os.getpid()
        """The process whose descendants are those of the attempt."""
        self.lost = False
        """True where nothing is left, and nobody can say how it ended."""

    def collect(self) -> tuple[list[Ended], bool]:
        """Collect what has ended since the last time, and return whether any process is left."""
        found: list[Ended] = []
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return found, False
            if pid == 0:
                return found, True
            cpu_s = usage.ru_utime + usage.ru_stime
            found.append(Ended(pid, status, cpu_s, usage.ru_maxrss * 1024))

    @property
    def ends_at(self) -> int | None:
        """The descriptor that is readable when a process has ended; None where a signal says so."""
        return None

    @property
    def forks(self) -> bool:
        """True if the command's process has to do something itself before it becomes the command. All others
        are spawned at :meth:`start`: that copies nothing of the shim, and so takes less time."""
        if self._launch.get("refused"):
            return False
        other = self._launch.get("submitter") is not None
        grouped = bool(self._launch["cgroup"] or self._launch.get("cgroups"))
        return other or grouped or self._cold_reason is not None or not SPAWNS

    def fork(self) -> None:
        """Fork the process that becomes the command at :meth:`start`: so much of the way is behind it when
        the GPUs come free. Should the shim die before, it ends at the end of the pipe."""
        hold_read, self._hold = os.pipe2(os.O_CLOEXEC)
        self._failed, failed_write = os.pipe2(os.O_CLOEXEC)
        failpoints.fp("shim_before_fork")
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._hold)
            self._become(hold_read, failed_write)
        failpoints.fp("shim_after_fork")
        for fd in (hold_read, failed_write, self._output):
            os.close(fd)

    def dismiss(self) -> None:
        """End what was forked for a command that will not start."""
        if self.pid:
            try:
                os.close(self._hold)
                os.waitpid(self.pid, 0)
            except OSError:
                pass  # it was killed

    def start(self, env: dict[str, str], cpus: list[int]) -> None:
        """Start the command in a session of its own, with `env` added to its environment, on those of `cpus`
        that it may use; `mode` is ``warm`` or ``cold: WHY`` then, as the command's process has decided.
        Raises ExecFailed."""
        if self.pid:
            self._release(env, cpus)
            return
        refused = self._launch.get("refused")
        if refused:
            os.close(self._output)
            raise ExecFailed(errno.EPERM, refused)
        self._spawn(env, cpus)

    def _release(self, env: dict[str, str], cpus: list[int]) -> None:
        write_all(self._hold, json.dumps({"env": env, "cpus": cpus}).encode())
        os.close(self._hold)
        answer = read_all(self._failed)
        os.close(self._failed)
        for number, text in map(json.loads, answer.splitlines()):
            if number is not None:
                os.waitpid(self.pid, 0)
                raise ExecFailed(number, text)
            self.mode = text

    def _spawn(self, env: dict[str, str], cpus: list[int]) -> None:
        argv, cwd = self._launch["argv"], self._launch["cwd"]
        stay_near(cpus)
        tag, free = self._launch["tag"], resource.getrlimit(RLIMIT_LOCKS)
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        umask = os.umask(self._launch["umask"])
        set_tag(0, (tag, free[1]))  # passed on by birth: it may have children before it can be tagged itself
        stage = f"enter the directory {cwd}"
        try:
            os.chdir(cwd)  # the shim has one thread, and no use for a directory of its own
            stage = f"execute {argv[0]}"
            self.pid = _spawned(argv, {**self._launch["env"], **env, "PWD": cwd}, null, self._output)
        except (OSError, ValueError) as failure:
            raise _exec_failed(stage, failure) from None
        finally:
            os.chdir("/")
            os.umask(umask)
            set_tag(0, free)
            os.close(null)
            os.close(self._output)
        set_tag(self.pid, (tag, tag))

    def _become(self, hold: int, failed: int) -> None:
        argv, env = self._launch["argv"], self._launch["env"]
        stage = "start"
        try:
            os.setsid()  # a `kill 0` of the job must not reach the shim
            for number in range(1, signal.NSIG):
                if number not in (signal.SIGKILL, signal.SIGSTOP):
                    try:
                        signal.signal(number, signal.SIG_DFL)
                    except (OSError, ValueError):
                        continue  # reserved by the C library
            for group in filter(None, (self._launch["cgroup"], *self._launch.get("cgroups", ()))):
                stage = "enter its cgroup"
                with open(os.path.join(group, "cgroup.procs"), "w") as file:
                    file.write("0")
            set_tag(0, (self._launch["tag"], self._launch["tag"]))
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, 0)
            os.dup2(self._output, 1)
            os.dup2(self._output, 2)
            os.umask(self._launch["umask"])
            assigned = read_all(hold)
            if not assigned:
                os._exit(0)
            assignment = json.loads(assigned)
            stay_near(assignment["cpus"])
            env.update(assignment["env"])
            submitter = self._launch.get("submitter")
            if submitter is not None:
                stage = f"become {submitter['name']} (uid {submitter['uid']})"
                os.fchown(self._output, submitter["uid"], submitter["gid"])  # it may be opened by its path
                identity.become(submitter)
            stage = f"enter the directory {self._launch['cwd']}"
            os.chdir(self._launch["cwd"])
            env["PWD"] = self._launch["cwd"]
            stage = f"execute {argv[0]}"
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            if self._cold_reason is not None:
                self._run_here_if_warm(self._cold_reason(self._launch), failed)
            _execute(argv, env)
        except RunHere:
            raise
        except BaseException as failure:
            ending = _exec_failed(stage, failure)
            try:
                os.write(failed, json.dumps([ending.number, ending.text]).encode())
            finally:
                os._exit(127)

    def _run_here_if_warm(self, why: str, failed: int) -> None:
        """Report how the command starts; raise RunHere where this process runs it."""
        os.write(failed, json.dumps([None, f"cold: {why}" if why else "warm"]).encode() + b"\n")
        if not why:
            os.close(failed)
            raise RunHere(self._launch)


def _spawns() -> bool:
    """Return True if this Python can spawn a process into a session of its own: one that was built for an
    older C library cannot."""
    try:
        os.posix_spawn("", ["command"], {}, setsid=True)
    except NotImplementedError:
        return False
    except OSError:
        pass  # there is no file without a name
    return True


SPAWNS = _spawns()


def _spawned(argv: list[str], env: dict[str, str], stdin: int, output: int) -> int:
    """Spawn the command in a session of its own, so that a `kill 0` of the job does not reach the shim;
    return its pid. All other descriptors close by themselves. Raises OSError, ValueError."""
    paths = _paths(argv[0], env)
    refusal: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    for path in paths:
        try:
            if len(paths) > 1:
                os.stat(path)  # spares a process for each place where it is not
            return os.posix_spawn(
                path,
                argv,
                env,
                file_actions=(
                    (os.POSIX_SPAWN_DUP2, stdin, 0),
                    (os.POSIX_SPAWN_DUP2, output, 1),
                    (os.POSIX_SPAWN_DUP2, output, 2),
                ),
                setsid=True,
                setsigmask=(),
                setsigdef=(signal.SIGPIPE,),  # the shim ignores it, and handles all others
            )
        except OSError as failure:
            if failure.errno not in (errno.ENOENT, errno.ENOTDIR) and refusal.errno == errno.ENOENT:
                refusal = failure
    raise refusal


def _execute(argv: list[str], env: dict[str, str]) -> None:
    """Become the command. (The library's own search imports modules, which another account may not be able to
    read.) Raises OSError, ValueError."""
    refusal: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    for path in _paths(argv[0], env):
        try:
            os.execve(path, argv, env)
        except OSError as failure:
            if failure.errno not in (errno.ENOENT, errno.ENOTDIR) and refusal.errno == errno.ENOENT:
                refusal = failure
    raise refusal


def _paths(program: str, env: dict[str, str]) -> list[str]:
    """Return where a program may be: a bare name is looked for on the path of `env`."""
    if "/" in program:
        return [program]
    return [os.path.join(place, program) for place in env.get("PATH", os.defpath).split(os.pathsep)]


def _exec_failed(stage: str, failure: BaseException) -> ExecFailed:
    """Return the failure of a stage of the way to the command as a sentence."""
    number = getattr(failure, "errno", None) or 0
    words = os.strerror(number) if number else str(failure)
    if number == errno.ENOENT and stage.startswith("execute"):
        words = "command not found"
    return ExecFailed(number, f"cannot {stage}: {words}"[:2000])


def set_tag(pid: int, limits: tuple[int, int]) -> None:
    """Give a process (0: this one) the limit that is its attempt's tag: a cleared environment and a new
    session do not take it off."""
    try:
        resource.prlimit(pid, RLIMIT_LOCKS, limits)
    except (OSError, ValueError):
        pass  # a lower limit is set, or it is gone: the cookie and the session have to do


def stay_near(cpus: list[int]) -> None:
    """Keep this process, and its descendants, on those of `cpus` that it may use: the ones near its GPUs. It
    is a matter of speed, so a machine that refuses it is no reason not to start."""
    allowed = os.sched_getaffinity(0) & set(cpus)
    try:
        if allowed:
            os.sched_setaffinity(0, allowed)
    except OSError as failure:
        sys.stderr.write(f"the job is not kept near its GPUs: {failure}\n")
        sys.stderr.flush()
