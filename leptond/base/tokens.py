"""The bearer tokens of the TCP listener: made once, kept in files that only their owner can read. One may
do everything that the daemon's own user may, the other (``token.read-only``) only look."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from leptond.base.errors import StartRefused

PREFIX = "lept_"
READ_ONLY = ".read-only"


@dataclass(frozen=True)
class Tokens:
    """`full` may do everything, `read_only` only look."""

    full: str
    read_only: str


def load_tokens(file: Path) -> Tokens:
    """Both tokens; see :func:`load_or_create`."""
    return Tokens(full=load_or_create(file), read_only=load_or_create(file.with_name(file.name + READ_ONLY)))


def load_or_create(file: Path) -> str:
    """The token in `file`, which is made if it is not there. Raises StartRefused (78) when others can
    read it or when it is empty."""
    try:
        if file.stat().st_mode & 0o077:
            raise StartRefused(f"the token file {file} can be read by others; run: chmod 600 {file}", 78)
        token = file.read_text().strip()
    except FileNotFoundError:
        token = PREFIX + secrets.token_urlsafe(32)
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(fd, "w") as out:
                out.write(token + "\n")
        except OSError as error:
            raise StartRefused(f"the token file {file} cannot be written: {error}", 78) from None
    except OSError as error:
        raise StartRefused(f"the token file {file} cannot be read: {error}", 78) from None
    if len(token) < 20:
        raise StartRefused(f"the token in {file} is too short; remove the file to get a new one", 78)
    return token
