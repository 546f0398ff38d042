"""Where leptond keeps its files: XDG directories for one user, the usual system ones under systemd."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

from leptond.base import socket_places
from leptond.base.errors import EXIT_LATER, StartRefused
from leptond.base.unix_sockets import ABOVE, prepare_directory


@dataclass(frozen=True, kw_only=True)
class Places:
    """The directories of one installation. `mode` is "user" or "system". `socket` is the API's;
    `more_sockets` are others at which it listens too."""

    mode: str
    config_file: Path
    state_dir: Path
    socket: Path
    token_file: Path
    more_sockets: tuple[Path, ...] = ()

    @property
    def sockets(self) -> tuple[Path, ...]:
        """The sockets of the API."""
        return (self.socket, *self.more_sockets)

    @property
    def job_socket(self) -> Path:
        """The socket of the API that jobs are given: the one that is least likely to go away."""
        return self.sockets[-1]

    @property
    def report_sockets(self) -> tuple[Path, ...]:
        """The sockets for progress messages of jobs: beside those of the API, under their names
        (``leptond.jobs``)."""
        return tuple(map(_report_socket, self.sockets))


def _report_socket(socket: Path) -> Path:
    if socket.suffix == ".sock":
        return socket.with_suffix(".jobs")
    return socket.with_name(socket.name + ".jobs")


def usable_sockets(places: Places) -> Places:
    """Return `places` with the sockets alone that can be made here, one at least. Raises StartRefused, which
    names all of them."""
    faults: dict[Path, StartRefused] = {}
    for path in places.sockets:
        try:
            prepare_directory(path, parents=ABOVE if path == places.job_socket else 1)
        except StartRefused as refusal:
            faults[path] = refusal
    left = [path for path in places.sockets if path not in faults]
    if not left:
        if len(faults) == 1:
            raise next(iter(faults.values()))
        raise StartRefused(
            "there is no place for its socket: " + "; ".join(map(str, faults.values())),
            min(refusal.exit_code for refusal in faults.values()),
        )
    return replace(places, socket=left[0], more_sockets=tuple(left[1:]))


def home() -> Path:
    """Return the home directory of this process's user. Raises OSError where none is known."""
    try:
        return Path.home()
    except RuntimeError:
        raise FileNotFoundError(errno.ENOENT, "no home directory is known: set HOME") from None


def _xdg(name: str, default: str) -> Path:
    value = os.environ.get(name, "")
    # the specification: a relative path is invalid and is ignored
    return Path(value) if value.startswith("/") else home() / default


def user_places() -> Places:
    """Return the places of one user's own leptond (XDG base directories). Its sockets are in the runtime
    directory, where there is one (a login session), and in the state directory."""
    state = _xdg("XDG_STATE_HOME", ".local/state") / "leptond"
    config = _xdg("XDG_CONFIG_HOME", ".config") / "leptond"
    runtime, stays = map(Path, socket_places.of_user(os.environ))
    sockets = [runtime, stays] if runtime.parent.parent.is_dir() else [stays]
    return Places(
        mode="user",
        config_file=config / "config.toml",
        state_dir=state,
        socket=sockets[0],
        token_file=config / "token",
        more_sockets=tuple(sockets[1:]),
    )


def system_places() -> Places:
    """Return the places of the machine's leptond, as its systemd unit sets them."""
    return Places(
        mode="system",
        config_file=Path(os.environ.get("CONFIGURATION_DIRECTORY", "/etc/leptond")) / "config.toml",
        state_dir=Path(os.environ.get("STATE_DIRECTORY", "/var/lib/leptond")),
        socket=Path(os.environ.get("RUNTIME_DIRECTORY", "/run/leptond")) / "leptond.sock",
        token_file=Path(os.environ.get("STATE_DIRECTORY", "/var/lib/leptond")) / "token",
    )


def make_directory(path: Path, mode: int) -> None:
    """Make `path` and what is missing above it, durably. Does nothing if it exists. Raises OSError."""
    if path.is_dir():
        return
    if not path.parent.is_dir():
        make_directory(path.parent, 0o755)
    path.mkdir(mode=mode, exist_ok=True)
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def data_dir(name: str) -> Path:
    """Return the directory `name` (migrations, systemd) that comes with the package: inside an installed
    wheel, or beside the package in a checkout. Raises StartRefused if it is in neither place: 75, for it may
    be on its way (an upgrade that is under way)."""
    package = Path(str(files("leptond")))
    for place in (package / "_data" / name, package.parent / name):
        if place.is_dir():
            return place
    raise StartRefused(
        f"the installation is incomplete: {name}/ is missing. Install leptond again.", EXIT_LATER
    )
