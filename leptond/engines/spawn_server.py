"""The spawn server: starts the processes that jobs come from in the unit that it runs in, for a daemon that
has a unit with a tighter sandbox of its own.

It runs as ``python -I -S -X utf8 spawn_server.py SOCKET``, uses the standard library alone and has one
thread. SOCKET is SOCK_SEQPACKET, and open for the account that it runs under alone. A request is a datagram
with descriptors: the first is a file with JSON (``argv``, ``env``, ``fds``: the numbers that the other
descriptors get, ``session``); the answer is JSON with ``pid`` and a pidfd, or ``errno``. A request with
``hello`` starts nothing: the answer is the server itself.

What it has started lives on when it ends; it knows nothing of it but to collect it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HIGH_FD = 64
DESCRIPTORS = 16
BODY_BYTES = 16 * 1024 * 1024


def start(request: dict[str, Any], fds: list[int]) -> int:
    """Start what a request names and return its pid. Raises OSError."""
    targets = request["fds"]
    if len(targets) != len(fds):
        raise OSError(errno.EBADF, "descriptors are missing")
    with contextlib.ExitStack() as close:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        close.callback(os.close, null)
        actions = []
        for target, fd in {0: null, 1: null, **dict(zip(targets, fds, strict=True))}.items():
            moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH_FD)
            close.callback(os.close, moved)
            actions.append((os.POSIX_SPAWN_DUP2, moved, target))
        return os.posix_spawn(
            request["argv"][0],
            request["argv"],
            request["env"],
            file_actions=actions,
            setsid=request["session"],
            setsigmask=[],
            setsigdef=[signal.SIGPIPE, signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP],
        )


def answer(connection: socket.socket) -> bool:
    """Answer one request; False at the end of a connection."""
    data, fds, _, _ = socket.recv_fds(connection, 64, DESCRIPTORS)
    if not data:
        return False
    pidfd = -1
    try:
        for fd in fds:
            os.set_inheritable(fd, False)
        request = json.loads(os.pread(fds[0], BODY_BYTES, 0))
        pid = os.getpid() if "hello" in request else start(request, fds[1:])
        pidfd = os.pidfd_open(pid)  # nothing is collected between the start and this
        socket.send_fds(connection, [json.dumps({"pid": pid}).encode()], [pidfd])
    except OSError as failure:
        connection.send(json.dumps({"errno": failure.errno or errno.EIO}).encode())
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        connection.send(json.dumps({"errno": errno.EINVAL}).encode())
    finally:
        for fd in [*fds, *([pidfd] if pidfd >= 0 else [])]:
            os.close(fd)
    return True


def is_allowed(connection: socket.socket) -> bool:
    """Return True for a peer of this process's own account."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return bool(struct.unpack("3i", data)[1] == os.geteuid())


def listen(path: str) -> socket.socket:
    """Return the listening socket, in place of one that an earlier server has left. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    os.umask(0o177)
    listener.bind(path)
    os.umask(0o077)
    listener.listen(8)
    return listener


def notify(message: str) -> None:
    """Tell the service manager, where there is one."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        address = "\0" + address[1:] if address.startswith("@") else address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, contextlib.suppress(OSError):
            manager.sendto(message.encode(), address)


def collect() -> None:
    """Collect the children that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def serve(listener: socket.socket) -> None:
    """Answer requests until the process is ended."""
    ended, woken = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    poll = select.poll()
    for fd in (listener.fileno(), ended):
        poll.register(fd, select.POLLIN)
    connections: dict[int, socket.socket] = {}
    while True:
        for fd, _ in poll.poll():
            if fd == ended:
                os.read(ended, 4096)
                collect()
            elif fd == listener.fileno():
                connection, _ = listener.accept()
                if is_allowed(connection):
                    connections[connection.fileno()] = connection
                    poll.register(connection, select.POLLIN)
                else:
                    connection.close()
            elif fd in connections and not _answered(connections[fd]):
                poll.unregister(fd)
                connections.pop(fd).close()


def _answered(connection: socket.socket) -> bool:
    try:
        return answer(connection)
    except OSError:
        return False  # the daemon has gone meanwhile


if __name__ == "__main__":
    server = listen(sys.argv[1])
    notify("READY=1\nSTATUS=starts processes of jobs")
    serve(server)
