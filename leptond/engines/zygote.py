"""The zygote: a small process that forks shims, so that no shim waits for an interpreter to start.

It runs as ``python -I -S -X utf8 zygote.py FD``, uses the standard library alone and has one thread. FD is a
SOCK_SEQPACKET connection with the daemon. A request is JSON (``id``, ``env``) with three descriptors: the
gate of the shim, its launch description, its ``shim.log``. The forked child answers by itself, with its
pid, its start time and a pidfd of itself, before it does anything else: where the daemon has given up waiting
and shut its end, the child cannot send, and ends. So a request that was not answered has started nothing.

A shim whose launch description is empty waits for one at its gate. All shims can take another attempt when
one has ended; what /proc shows as their environment then names the new one.

With a third argument, a list of modules, it is a warm zygote: it runs in the job's own interpreter and
imports them first, and the command that the shim starts may run in place (:mod:`leptond.engines.inplace`).

At the end of file, when the daemon is gone in whatever way, the zygote ends. Its shims live on: each has a
session of its own.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import json
import mmap
import os
import select
import signal
import socket
import struct
import sys

REQUEST_BYTES = 65536
DESCRIPTORS = 3
HIGH_FD = 16
"""Above the numbers that the shim expects its descriptors at."""
OUTPUT_FD = 4
"""Where a warm zygote reads what its imports print."""
NAME_BYTES = 32
"""Room for an attempt's id in the environment that /proc shows."""
PR_SET_MM = 35
PR_SET_MM_MAP = 14

libc = ctypes.CDLL(None, use_errno=True)


def load(name: str) -> object:
    """The module in the file `name` beside this one: -I leaves no path to import it by."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), name)
    module = type(sys)(name.removesuffix(".py"))
    module.__file__ = path
    with open(path, "rb") as file:
        exec(compile(file.read(), path, "exec"), module.__dict__)
    return module


def own_stat() -> list[str]:
    """Fields of our /proc/self/stat from the third on."""
    with open("/proc/self/stat", "rb") as file:
        text = file.read()
    return text[text.rfind(b")") + 2 :].decode("ascii", "replace").split()


def show_as(argv: list[str], env: dict[str, str]) -> bool:
    """Makes /proc show this command line and this environment for us, as after an exec: by them people and
    leptond know a process. A forked process shows those of the one that it was forked from.

    The C library's environment must hold copies of its own by now: what it was started with may be
    overwritten. False where the kernel does not take it, and it shows as much as there is room for.
    """
    stat = own_stat()
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
    numbers = [int(stat[field - 3]) for field in (26, 27, 45, 46, 47)]  # code, data, heap
    libc.sbrk.restype = ctypes.c_void_p
    numbers += [libc.sbrk(0), int(stat[28 - 3]), begin, middle, middle, end, 0]
    told = struct.pack("=12QIi", *numbers, 0, -1)
    size = ctypes.c_ulong(len(told))
    if libc.prctl(PR_SET_MM, PR_SET_MM_MAP, ctypes.c_char_p(told), size, ctypes.c_ulong(0)) != 0:
        _overwrite(args, int(stat[48 - 3]), int(stat[49 - 3]))  # a kernel without CONFIG_CHECKPOINT_RESTORE
        _overwrite(environ, int(stat[50 - 3]), int(stat[51 - 3]))
        return False
    del before
    return True


def rename(attempt_id: str) -> None:
    """Shows this attempt's id as ours; empty: none. It is in the last variable, which has room for it."""
    block, _ = globals()["_shown"]
    name = attempt_id.encode().ljust(NAME_BYTES, b"\0")
    block[len(block) - 1 - NAME_BYTES : len(block) - 1] = name[:NAME_BYTES]


def _overwrite(text: bytes, begin: int, end: int) -> None:
    """As much of `text` as there is room for, in whole strings."""
    room = end - begin
    if len(text) > room:
        text = text[: text.rfind(b"\0", 0, room) + 1]
    ctypes.memmove(begin, text + bytes(room - len(text)), room)


def serve(channel: socket.socket, facts: dict) -> tuple[dict, list[int]]:  # type: ignore[type-arg]
    """Says that it is ready, with `facts`, and forks a child for each request. Comes back in the children
    alone, with the request and its descriptors; ends the process when the daemon is gone."""
    wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    poll.register(wake_read, select.POLLIN)
    _say(channel, {"ready": True, **facts})
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
            _say(channel, {"id": request["id"], "errno": failure.errno})
            child = -1
        if child == 0:
            signal.set_wakeup_fd(-1)
            os.close(wake_read)
            os.close(wake_write)
            return request, fds
        # a gate that stays open here would hide the shim's end from the daemon
        for fd in fds:
            os.close(fd)


def _say(channel: socket.socket, words: dict) -> None:  # type: ignore[type-arg]
    """Ends the process when the daemon is gone."""
    try:
        channel.send(json.dumps(words).encode())
    except (BrokenPipeError, ConnectionResetError):
        os._exit(0)


def _collect() -> None:
    """Collects the shims that have ended. The daemon has its pidfds of them."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            return


def answer(channel: socket.socket, request: dict, stat: list[str]) -> None:  # type: ignore[type-arg]
    """Says who we are; ends the process where nobody is told, for then nobody knows of us."""
    pidfd = os.pidfd_open(os.getpid())
    told = {"id": request["id"], "pid": os.getpid(), "start_ticks": int(stat[19])}
    try:
        socket.send_fds(channel, [json.dumps(told).encode()], [pidfd])
    except OSError:
        os._exit(0)
    os.close(pidfd)


def become_shim(channel: socket.socket, request: dict, fds: list[int], shim: object) -> None:  # type: ignore[type-arg]
    """What an exec would have done for the shim, after which its ``main`` may be called."""
    os.setsid()
    stat = own_stat()
    answer(channel, request, stat)
    channel.close()
    gate, launch, log = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH_FD) for fd in fds)
    for fd in fds:
        os.close(fd)
    null = os.open(os.devnull, os.O_RDWR)
    places = ((null, 0), (null, 1), (log, 2), (gate, shim.GATE_FD), (launch, shim.LAUNCH_FD))  # type: ignore[attr-defined]
    for fd, place in places:
        os.dup2(fd, place)
    for fd in {null, log, gate, launch} - {place for _, place in places}:
        os.close(fd)
    os.environ.clear()
    os.environ.update(request["env"])
    env = dict(request["env"])
    name = env.pop("LEPTOND_SHIM")
    env["LEPTOND_SHIM"] = name.ljust(NAME_BYTES, "\0")
    argv = [*sys.orig_argv[: sys.orig_argv.index(sys.argv[0])], shim.__file__]  # type: ignore[attr-defined]
    if show_as(argv, env) and len(name) <= NAME_BYTES:
        shim.rename = rename  # type: ignore[attr-defined]


def main():  # type: ignore[no-untyped-def]
    """Serves, and in each child runs a shim. Comes back in the process of a command that is to run in place,
    with what runs it."""
    shim = load("shim.py")
    warm = len(sys.argv) > 2
    fd = int(sys.argv[1])
    os.set_inheritable(fd, False)
    for other in map(int, os.listdir("/proc/self/fd")):
        if other > 2 and other not in (fd, OUTPUT_FD if warm else fd):
            try:
                os.close(other)  # what the daemon itself was started with
            except OSError:
                pass  # it was of the listing
    channel = socket.socket(fileno=fd)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the end of the daemon is its end, and nothing else
    facts: dict = {}  # type: ignore[type-arg]
    if warm:
        inplace = load("inplace.py")
        del sys.path[0]  # our own directory, which nobody is to import from
        os.chdir("/")
        facts = inplace.prepare(json.loads(sys.argv[2]), OUTPUT_FD)  # type: ignore[attr-defined]
        shim.in_place = inplace.obstacle  # type: ignore[attr-defined]
    gc.freeze()  # a collection in a shim must not touch, and so copy, what is here
    request, fds = serve(channel, facts)
    become_shim(channel, request, fds, shim)
    try:
        shim.main()  # type: ignore[attr-defined]
    except BaseException as end:
        if isinstance(end, shim.InPlace):  # type: ignore[attr-defined]
            return inplace.run, end.args[0]  # type: ignore[attr-defined]
        raise
    finally:
        sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    run, launch = main()  # type: ignore[no-untyped-call]
    run(launch, show_as)
