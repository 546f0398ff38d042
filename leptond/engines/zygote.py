"""The zygote: a small process that forks shims, so that no shim waits for an interpreter to start.

It runs as ``python -I -S -X utf8 zygote.py FD``, uses the standard library alone and has one thread. FD is a
SOCK_SEQPACKET connection with the daemon. A request is JSON (``id``, ``env``) with three descriptors: the
gate of the shim, its launch description, its ``shim.log``. The forked child answers by itself, with its
pid, its start time and a pidfd of itself, before it does anything else: where the daemon has given up waiting
and shut its end, the child cannot send, and ends. So a request without an answer has started nothing.

A shim whose launch description is empty waits for one at its gate. All shims can take another attempt when
one has ended; what /proc shows as their environment then names the new one.

With a third argument, a list of modules, it is a warm zygote: it runs in the job's own interpreter and
imports them first, and the shim's command may run in the forked process (:mod:`leptond.engines.warm_runner`).

At the end of file, when the daemon is gone in whatever way, the zygote ends. Its shims live on: each has a
session of its own.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import importlib
import json
import mmap
import os
import select
import signal
import socket
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PACKAGE = "leptond"
REQUEST_BYTES = 65536
DESCRIPTORS = 3
HIGH_FD = 16
"""Above the numbers that the shim expects its descriptors at."""
OUTPUT_FD = 4
"""Where a warm zygote reads what its imports print."""
PLAN_FD = 5
"""The file with the plan of a warm zygote; its report takes the place of the plan."""
NAME_BYTES = 32
"""Space for an attempt's id in the environment that /proc shows."""
PR_SET_MM = 35
PR_SET_MM_MAP = 14

libc = ctypes.CDLL(None, use_errno=True)
procfs: Any = None
"""leptond.base.procfs, from :func:`main` on."""


def load(*names: str, keep_bytecode: bool) -> list[Any]:
    """Import modules of ours. No path leads to them here: a bare package does, for as long as it takes.
    Nothing of it stays in the tables of the import system, where a job of a warm process would find it."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    met = {key: sys.modules.pop(key) for key in list(sys.modules) if key.partition(".")[0] == PACKAGE}
    package = sys.modules[PACKAGE] = type(sys)(PACKAGE)
    package.__path__ = [root]
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, not keep_bytecode
    try:
        return [importlib.import_module(f"{PACKAGE}.{name}") for name in names]
    finally:
        sys.dont_write_bytecode = before
        for key in [key for key in sys.modules if key.partition(".")[0] == PACKAGE]:
            del sys.modules[key]
        sys.modules.update(met)
        for path in [path for path in sys.path_importer_cache if path.startswith(root)]:
            del sys.path_importer_cache[path]


def show_as(argv: list[str], env: dict[str, str]) -> bool:
    """Make /proc show this command line and this environment for this process, as after an exec: people and
    leptond know a process by them. A forked process shows those of the one that it was forked from.

    The C library's environment must hold copies of its own by now: what it was started with may be
    overwritten. False where the kernel does not take it, and it shows as much as there is room for.
    """
    stat = procfs.read_stat("self")
    args = b"".join(os.fsencode(word) + b"\0" for word in argv)
    environ = b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in env.items())
    block = mmap.mmap(-1, len(args) + len(environ) or 1, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    block.write(args + environ)
    # the view keeps the mapping: it must stay as long as the process does
    view = ctypes.c_char.from_buffer(block)
    before = globals().get("_shown")  # what is shown until the kernel takes the new one
    globals()["_shown"] = (block, view)
    begin = ctypes.addressof(view)
    middle, end = begin + len(args), begin + len(args) + len(environ)
    numbers = [stat.number(field) for field in (26, 27, 45, 46, 47)]  # code, data, heap
    libc.sbrk.restype = ctypes.c_void_p
    numbers += [libc.sbrk(0), stat.number(28), begin, middle, middle, end, 0]
    fields = struct.pack("=12QIi", *numbers, 0, -1)
    size = ctypes.c_ulong(len(fields))
    if libc.prctl(PR_SET_MM, PR_SET_MM_MAP, ctypes.c_char_p(fields), size, ctypes.c_ulong(0)) != 0:
        _overwrite(args, stat.number(48), stat.number(49))  # a kernel without CONFIG_CHECKPOINT_RESTORE
        _overwrite(environ, stat.number(50), stat.number(51))
        return False
    del before
    return True


def rename(attempt_id: str) -> None:
    """Show this attempt's id as that of this process; empty: none. It is in the last variable, which has room
    for it."""
    block, _ = globals()["_shown"]
    name = attempt_id.encode().ljust(NAME_BYTES, b"\0")
    block[len(block) - 1 - NAME_BYTES : len(block) - 1] = name[:NAME_BYTES]


def _overwrite(text: bytes, begin: int, end: int) -> None:
    """Write as much of `text` as there is space for, in whole strings."""
    room = end - begin
    if len(text) > room:
        text = text[: text.rfind(b"\0", 0, room) + 1]
    ctypes.memmove(begin, text + bytes(room - len(text)), room)


def serve(channel: socket.socket, facts: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
    """Report that this zygote is ready, with `facts`, and fork a child for each request. Returns in the
    children alone, with the request and its descriptors; ends the process when the daemon is gone."""
    wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    poll.register(wake_read, select.POLLIN)
    _send(channel, {"ready": True, **facts})
    while True:
        ready = [fd for fd, _ in poll.poll()]
        if wake_read in ready:
            os.read(wake_read, 4096)
            _collect()
        if channel.fileno() not in ready:
            continue
        data, fds, _, _ = socket.recv_fds(channel, REQUEST_BYTES, DESCRIPTORS)
        if not data:
            os._exit(0)
        request = json.loads(data)
        try:
            child = os.fork()
        except OSError as failure:
            _send(channel, {"id": request["id"], "errno": failure.errno})
            child = -1
        if child == 0:
            signal.set_wakeup_fd(-1)
            os.close(wake_read)
            os.close(wake_write)
            return request, fds
        # a gate that stays open here would hide the shim's end from the daemon
        for fd in fds:
            os.close(fd)


def _send(channel: socket.socket, message: dict[str, Any]) -> None:
    """Send a message; end the process when the daemon is gone."""
    try:
        channel.send(json.dumps(message).encode())
    except (BrokenPipeError, ConnectionResetError):
        os._exit(0)


def _collect() -> None:
    """Collect the shims that have ended. The daemon has pidfds of its own of them."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            return


def answer(channel: socket.socket, request: dict[str, Any], start_ticks: int) -> None:
    """Send the identity of this process; end it where that fails, for then the daemon does not know of it."""
    pidfd = os.pidfd_open(os.getpid())
    identity = {"id": request["id"], "pid": os.getpid(), "start_ticks": start_ticks}
    try:
        socket.send_fds(channel, [json.dumps(identity).encode()], [pidfd])
    except OSError:
        os._exit(0)
    os.close(pidfd)


def become_shim(
    channel: socket.socket, request: dict[str, Any], fds: list[int], protocol: Any
) -> Callable[[str], None] | None:
    """Do what an exec would have done for the shim. Return how another attempt's id is shown as that of this
    process, if that is possible."""
    os.setsid()
    answer(channel, request, procfs.read_stat("self").start_ticks)
    channel.close()
    gate, launch, log = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH_FD) for fd in fds)
    for fd in fds:
        os.close(fd)
    null = os.open(os.devnull, os.O_RDWR)
    places = ((null, 0), (null, 1), (log, 2), (gate, protocol.GATE_FD), (launch, protocol.LAUNCH_FD))
    for fd, place in places:
        os.dup2(fd, place)
    for fd in {null, log, gate, launch} - {place for _, place in places}:
        os.close(fd)
    os.environ.clear()
    os.environ.update(request["env"])
    env = dict(request["env"])
    name = env.pop("LEPTOND_SHIM")
    env["LEPTOND_SHIM"] = name.ljust(NAME_BYTES, "\0")
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "shim", "__main__.py")
    argv = [*sys.orig_argv[: sys.orig_argv.index(sys.argv[0])], program]
    return rename if show_as(argv, env) and len(name) <= NAME_BYTES else None


def _prepare(prepare: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """Import what this zygote is made for, by the plan in the file PLAN_FD, and leave the report there: it
    may be longer than a message."""
    with open(PLAN_FD, "r+b") as file:
        plan = json.loads(file.read())
        os.set_inheritable(PLAN_FD, False)
        report = prepare(json.loads(sys.argv[2]), OUTPUT_FD, plan)
        file.seek(0)
        file.truncate()
        file.write(json.dumps(report).encode())
    return {"refused": report["refused"]} if "refused" in report else {}


def main() -> tuple[Callable[..., None], dict[str, Any]]:
    """Serve, and in each child run a shim. Returns in the process of a command that runs there, with what
    runs it and its launch."""
    global procfs
    is_warm = len(sys.argv) > 2
    names = ["base.procfs", "engines.protocol", "engines.shim.program"]
    if is_warm:
        names += ["engines.warm_imports", "engines.warm_runner"]
    # an interpreter of the job's is not to leave its bytecode among our files
    procfs, protocol, shim, *warm = load(*names, keep_bytecode=not is_warm)
    fd = int(sys.argv[1])
    os.set_inheritable(fd, False)
    for other in map(int, os.listdir("/proc/self/fd")):
        if other > 2 and other not in ((fd, OUTPUT_FD, PLAN_FD) if is_warm else (fd,)):
            try:
                os.close(other)  # what the daemon itself was started with
            except OSError:
                pass  # it was of the listing
    channel = socket.socket(fileno=fd)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the end of the daemon is its end, and nothing else
    facts: dict[str, Any] = {}
    if warm:
        del sys.path[0]  # our own directory: no job is to import from it
        os.chdir("/")
        facts = _prepare(warm[0].prepare)
    gc.freeze()  # a collection in a shim must not touch, and so copy, what is here
    request, fds = serve(channel, facts)
    renamed = become_shim(channel, request, fds, protocol)
    try:
        shim.main(renamed, warm[1].cold_reason if warm else None)
    except BaseException as end:
        if isinstance(end, shim.RunHere):
            return warm[1].run, end.args[0]
        raise
    finally:
        sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    run, launch = main()
    run(launch, show_as)
