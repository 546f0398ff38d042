"""Where leptond keeps its files: XDG directories for one user, the usual system ones under systemd."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from leptond.base.errors import StartRefused


@dataclass(frozen=True, kw_only=True)
class Places:
    """The directories of one installation. `mode` is "user" or "system"."""

    mode: str
    config_file: Path
    state_dir: Path
    socket: Path
    token_file: Path

    @property
    def report_socket(self) -> Path:
        """Socket for progress messages of jobs: beside the API's socket, under its name
        (``leptond.jobs``)."""
        if self.socket.suffix == ".sock":
            return self.socket.with_suffix(".jobs")
        return self.socket.with_name(self.socket.name + ".jobs")


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
    """Return the places of one user's own leptond (XDG base directories). Without a runtime directory (no
    login session) the socket is in the state directory."""
    state = _xdg("XDG_STATE_HOME", ".local/state") / "leptond"
    config = _xdg("XDG_CONFIG_HOME", ".config") / "leptond"
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if not runtime.startswith("/"):
        runtime = f"/run/user/{os.getuid()}"
    socket_dir = Path(runtime) / "leptond" if Path(runtime).is_dir() else state
    return Places(
        mode="user",
        config_file=config / "config.toml",
        state_dir=state,
        socket=socket_dir / "leptond.sock",
        token_file=config / "token",
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
    wheel, or beside the package in a checkout. Raises StartRefused (78) if it is in neither place."""
    package = Path(str(files("leptond")))
    for place in (package / "_data" / name, package.parent / name):
        if place.is_dir():
            return place
    raise StartRefused(f"the installation is incomplete: {name}/ is missing. Install leptond again.", 78)
