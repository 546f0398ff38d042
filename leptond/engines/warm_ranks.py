"""Warm ranks: what a launcher (torchrun, accelerate) starts in a warm process starts warm too.

Before the launcher's own code runs, and before it has threads, :func:`offer` forks a *rank server* from its
process: single-threaded, and in the state that the imports left. Where the launcher then starts its own
interpreter through ``subprocess``, the request goes to the server, which clones itself. The clone is a child
of the launcher (CLONE_PARENT), as a spawned process would be, and gets from the launcher what a spawned
process inherits. Whatever is not exactly such a call goes the ordinary way, and so does everything once the
server is gone. The server ends with the launcher.

Uses the standard library alone; runs in a job's process.
"""

from __future__ import annotations

import _thread
import ctypes
import fcntl
import io
import json
import os
import platform
import resource
import signal
import socket
import sys

from leptond.base import procfs
from leptond.core import python_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HIGH_FD = 512
"""The launcher's end of the connection is above the numbers that it would use itself."""
ANSWER_S = 5.0
"""The limit of a clone; then the rank is spawned."""
CLONE_PARENT, CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID = 0x8000, 0x200000, 0x1000000
PR_SET_PDEATHSIG, PR_GET_TID_ADDRESS = 1, 40
SYSCALLS = {"x86_64": (56, 273, 274), "aarch64": (220, 99, 100)}
"""The numbers of clone, set_robust_list and get_robust_list."""
OF_CALLER = (
    "Uid",
    "Gid",
    "Groups",
    "NoNewPrivs",
    "Seccomp",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
)
"""What a spawned process inherits and no request can carry: as it was, or the rank is spawned."""

kept_fd = -1
"""The launcher's end of the connection; -1: there is none."""
libc = ctypes.PyDLL(None, use_errno=True)  # keeps the lock of the interpreter, as os.fork() does


ARGUMENTS = (
    "args",
    "executable_list",
    "close_fds",
    "fds_to_keep",
    "cwd",
    "env",
    "p2cread",
    "p2cwrite",
    "c2pread",
    "c2pwrite",
    "errread",
    "errwrite",
    "errpipe_read",
    "errpipe_write",
    "restore_signals",
    "new_session",
    "process_group",
    "gid",
    "gids",
    "uid",
    "umask",
    "preexec_fn",
)
"""The arguments of subprocess's ``_fork_exec``; one that says if it may vfork follows until Python 3.13."""


def offer(variables: dict[str, str]) -> dict[str, Any] | None:
    """Start the rank server of the launcher that this process becomes. Return the launch of a rank in the
    process of that rank, and None in the launcher. `variables`: those that the imports may have read unseen,
    which a rank has to agree in."""
    global kept_fd
    address = ctypes.c_void_p()
    known = libc.prctl(PR_GET_TID_ADDRESS, ctypes.byref(address), 0, 0, 0) == 0 and address.value
    import subprocess  # it is loaded anyway, by what launches ranks

    if platform.machine() not in SYSCALLS or not known or not hasattr(subprocess, "_fork_exec"):
        return None
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    inherited, launcher = _inherited(), os.getpid()
    if os.fork() == 0:
        ours.close()
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != launcher:
            os._exit(0)
        return _serve(theirs, int(known))
    theirs.close()
    fd = fcntl.fcntl(
        ours.fileno(), fcntl.F_DUPFD_CLOEXEC, _high(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    )
    ours.close()
    kept_fd = fd
    channel = socket.socket(fileno=fd)
    channel.settimeout(ANSWER_S)
    _redirect(subprocess, _Launcher(channel, inherited, variables, subprocess._fork_exec))
    return None


def _high(limit: int) -> int:
    return HIGH_FD if limit > HIGH_FD or limit < 0 else max(3, limit // 2)


def _redirect(subprocess: Any, launcher: _Launcher) -> None:
    subprocess._fork_exec = launcher.start
    # it is for processes of the same kind, but gives none of its arguments away
    subprocess._USE_POSIX_SPAWN = False


def _status() -> dict[str, str]:
    text = (procfs.read_file("thread-self", "status") or b"").decode("utf-8", "replace")
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def _inherited() -> list[Any]:
    """Return what no request carries."""
    status = _status()
    return [
        *(status.get(name) for name in OF_CALLER),
        os.sched_getscheduler(0),
        os.sched_getparam(0).sched_priority,
        os.getpriority(os.PRIO_PROCESS, 0),
        procfs.read_file("self", "cgroup"),
        [os.readlink(f"/proc/self/ns/{name}") for name in sorted(os.listdir("/proc/self/ns"))],
        os.readlink("/proc/self/root"),
    ]


# -- in the launcher ----------------------------------------------------------------------------------------


class _Launcher:
    """The launcher's side: takes the place of subprocess's ``_fork_exec``, which is `spawn`."""

    def __init__(
        self, channel: socket.socket, inherited: list[Any], variables: dict[str, str], spawn: Any
    ) -> None:
        self._channel: socket.socket | None = channel
        self._inherited = inherited
        self._variables = variables
        self._spawn = spawn
        self._pid = os.getpid()
        self._lock = _thread.allocate_lock()

    def start(self, *values: Any) -> int:
        """Start a process and return its pid."""
        pid = 0
        if self._channel is not None and os.getpid() == self._pid and len(values) - len(ARGUMENTS) in (0, 1):
            call = dict(zip(ARGUMENTS, values, strict=False))
            try:
                with self._lock:
                    pid = self._ask(call)
            except (OSError, ValueError):
                pass
        return pid or int(self._spawn(*values))

    def _ask(self, call: dict[str, Any]) -> int:
        """Have the rank server start a rank; return its pid, 0 where it is to be spawned. Raises OSError,
        ValueError."""
        channel = self._channel
        request = self._request(call)
        if request is None or channel is None:
            return 0
        order = os.memfd_create("leptond-rank")
        where = os.open(
            call["cwd"] if call["cwd"] is not None else ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        )
        try:
            os.write(order, json.dumps(request).encode())
            given = [call[name] if call[name] != -1 else fd for fd, name in enumerate(_STANDARD)]
            socket.send_fds(channel, [b"rank"], [order, where, *given])
            answer = channel.recv(64)
        except OSError:
            # a clone that has not answered cannot any more, and ends
            channel.close()
            self._channel = None
            raise
        finally:
            os.close(order)
            os.close(where)
        if not answer:
            channel.close()
            self._channel = None
        return int(answer or 0)

    def _request(self, call: dict[str, Any]) -> dict[str, Any] | None:
        """Return the request for a rank; None for a process that has to be spawned."""
        argv = [os.fsdecode(word) for word in call["args"]]
        plain = (
            [os.fsdecode(path) for path in call["executable_list"]] == [sys.executable]
            and call["close_fds"]
            and call["fds_to_keep"] == (call["errpipe_write"],)
            and call["env"] is not None
            and call["restore_signals"]
            and call["process_group"] == -1
            and [call[name] for name in ("gid", "gids", "uid", "preexec_fn")] == [None] * 4
        )
        if not plain:
            return None
        env = dict(item.split("=", 1) for item in map(os.fsdecode, call["env"]) if "=" in item[1:])
        command = python_command.parse(argv, env)
        if isinstance(command, str) or python_command.unseen(env) != self._variables:
            return None
        if _inherited() != self._inherited or any(
            os.isatty(call[name] if call[name] != -1 else fd) for fd, name in enumerate(_STANDARD)
        ):
            return None
        status = _status()
        return {
            "warm": command.described(),
            "argv": argv,
            "env": env,
            "session": bool(call["new_session"]),
            "umask": call["umask"] if call["umask"] >= 0 else int(status["Umask"], 8),
            "ignored": int(status["SigIgn"], 16),
            "blocked": int(status["SigBlk"], 16),
            "cpus": sorted(os.sched_getaffinity(0)),
            "limits": [(number, resource.getrlimit(number)) for number in _LIMITS],
        }


_STANDARD = ("p2cread", "c2pwrite", "errwrite")
_LIMITS = sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})


# -- in the server and its clones ---------------------------------------------------------------------------


def _serve(channel: socket.socket, tid_address: int) -> dict[str, Any]:
    """Clone this process for each request. Returns in the clones alone, with their launch."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    while True:
        # what a rank is given is above 2 here, for 0 to 2 are taken
        data, fds, _, _ = socket.recv_fds(channel, 64, 5)
        if not data:
            os._exit(0)
        child = _clone(tid_address) if len(fds) == 5 else -1
        if child == 0:
            try:
                return _become_rank(channel, fds)
            except BaseException:
                os._exit(1)  # the launcher gets no answer, and spawns it
        if child < 0:
            channel.send(b"0")
        for fd in fds:
            os.close(fd)


def _clone(tid_address: int) -> int:
    """Fork a sibling of this process, which has one thread; return 0 in it, and -1 where it cannot be made.
    All that the C library does at a fork of such a process is to have the kernel write the id of the thread
    where it looks for it, and to register its list of locks again."""
    clone, set_list, get_list = SYSCALLS[platform.machine()]
    head, size = ctypes.c_void_p(), ctypes.c_size_t()
    libc.syscall(get_list, 0, ctypes.byref(head), ctypes.byref(size))
    flags = CLONE_PARENT | CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID | signal.SIGCHLD
    nothing, address = ctypes.c_void_p(), ctypes.c_void_p(tid_address)
    order = (
        (nothing, nothing, address, nothing)
        if platform.machine() == "x86_64"
        else (nothing, nothing, nothing, address)
    )
    api = ctypes.pythonapi
    api.PyOS_BeforeFork()
    pid = int(libc.syscall(clone, ctypes.c_ulong(flags), *order))
    if pid == 0:
        api.PyOS_AfterFork_Child()
        libc.syscall(set_list, head, size)
    else:
        api.PyOS_AfterFork_Parent()
    return pid


def _become_rank(channel: socket.socket, fds: list[int]) -> dict[str, Any]:
    """Take over what a spawned process would have inherited, and answer with this process's id."""
    order, where, *standard = fds
    os.lseek(order, 0, os.SEEK_SET)
    with os.fdopen(order, "rb") as file:
        request: dict[str, Any] = json.load(file)
    if request["session"]:
        os.setsid()
    os.fchdir(where)
    os.umask(request["umask"])
    for fd, place in zip(standard, (0, 1, 2), strict=True):
        os.dup2(fd, place)
    for fd in (where, *standard):
        os.close(fd)
    for number in range(1, signal.NSIG):
        if number in (signal.SIGKILL, signal.SIGSTOP):
            continue
        ignored = request["ignored"] >> (number - 1) & 1 and number not in (signal.SIGPIPE, signal.SIGXFSZ)
        try:
            signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
        except (OSError, ValueError):
            continue  # reserved by the C library
    for number, limits in request["limits"]:
        if resource.getrlimit(number) != tuple(limits):
            resource.setrlimit(number, limits)
    if sorted(os.sched_getaffinity(0)) != request["cpus"]:
        os.sched_setaffinity(0, request["cpus"])
    try:
        channel.send(str(os.getpid()).encode())
    except OSError:
        os._exit(0)  # the launcher has spawned it meanwhile
    channel.close()
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        _renew_stream(fd, name)
    blocked = request["blocked"]
    signal.pthread_sigmask(signal.SIG_SETMASK, {n for n in signal.valid_signals() if blocked >> (n - 1) & 1})
    return request


def _renew_stream(fd: int, name: str) -> None:
    """Make sys.stdin, sys.stdout or sys.stderr anew where it has noted of its descriptor what is true no
    more: that it can, or cannot, seek."""
    old = getattr(sys, name)
    try:
        os.lseek(fd, 0, os.SEEK_CUR)
        seekable = True
    except OSError:
        seekable = False
    if old is None or old.seekable() == seekable:
        return
    raw: Any = io.FileIO(fd, "rb" if fd == 0 else "wb", closefd=False)
    buffer: Any = raw
    if not isinstance(old.buffer, io.FileIO):
        buffer = io.BufferedReader(raw) if fd == 0 else io.BufferedWriter(raw)
    raw.name = f"<{name}>"
    new: Any = io.TextIOWrapper(
        buffer,
        encoding=old.encoding,
        errors=old.errors,
        newline="\n",
        line_buffering=old.line_buffering,
        write_through=old.write_through,
    )
    new.mode = old.mode
    setattr(sys, name, new)
    setattr(sys, f"__{name}__", new)
