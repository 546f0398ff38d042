"""What the service manager hands to the daemon at its start: listening sockets (sd_listen_fds(3)) and
credentials (LoadCredential=)."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, MutableMapping
from pathlib import Path

from leptond.base.errors import EXIT_CONFIG, StartRefused

FIRST_FD = 3
"""The descriptor of the first socket."""

VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")

CREDENTIAL = "leptond.token"
"""The name of the credential that is the daemon's own token; the one that may only read has the suffix of its
file, ``.read-only``."""


def take_sockets(environ: MutableMapping[str, str]) -> list[socket.socket]:
    """Return the sockets that were handed to this process, and remove the variables that say so: processes
    that it starts have none. Raises StartRefused (78) for what is no listening stream socket."""
    pid, count, _ = (environ.pop(name, "") for name in VARIABLES)
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    found = []
    for fd in range(FIRST_FD, FIRST_FD + int(count)):
        os.set_inheritable(fd, False)
        try:
            one = socket.socket(fileno=fd)
            listens = one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError:
            raise StartRefused(
                f"descriptor {fd}, which the service manager hands over, is no socket", EXIT_CONFIG
            ) from None
        if one.type != socket.SOCK_STREAM or not listens:
            raise StartRefused(
                f"the service manager hands over a socket that does not listen ({one}): use ListenStream="
                " and Accept=no",
                EXIT_CONFIG,
            )
        one.setblocking(False)
        found.append(one)
    return found


def by_path(sockets: Iterable[socket.socket], paths: Iterable[Path]) -> dict[Path, socket.socket]:
    """Return the sockets by the path among `paths` that each is bound to. Raises StartRefused (78) for one
    that is bound to none of them."""
    served, found = list(paths), {}
    for one in sockets:
        name = one.getsockname()
        path = Path(name) if one.family == socket.AF_UNIX and isinstance(name, str) else None
        if path is None or path not in served:
            raise StartRefused(
                f"the service manager hands over a socket at {name or 'no path'}, which leptond does not"
                f" serve: ListenStream= is to be {' or '.join(map(str, served))} (TCP is http.listen in the"
                " configuration)",
                EXIT_CONFIG,
            )
        found[path] = one
    return found


def credential(environ: MutableMapping[str, str], name: str) -> Path | None:
    """Return the file of a credential; None where there is none of this name."""
    place = environ.get("CREDENTIALS_DIRECTORY", "")
    file = Path(place) / name
    return file if place and file.is_file() else None
