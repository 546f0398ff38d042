"""The daemon's own bearer tokens for the TCP listener, made once and kept in files that only their owner can
read. One has all rights of the daemon's own user, the other (``token.read-only``) may only read. Those of
persons are in the database (:mod:`leptond.services.tokens`)."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from leptond.base.durable import write_durably
from leptond.base.errors import StartRefused, start_refused

PREFIX = "lept_"
READ_ONLY = ".read-only"


@dataclass(frozen=True)
class Tokens:
    """`full` has all rights, `read_only` may only read."""

    full: str
    read_only: str


def load_tokens(file: Path, given: Callable[[str], Path | None] = lambda suffix: None) -> Tokens:
    """Return both tokens; see :func:`load_or_create`. `given` returns the file of one that the service
    manager gives instead, by its suffix."""
    reading = file.with_name(file.name + READ_ONLY)
    return Tokens(
        full=load_or_create(given("") or file), read_only=load_or_create(given(READ_ONLY) or reading)
    )


def load_or_create(file: Path) -> str:
    """Return the token in `file`. One that is missing, or empty (a crash came between its making and its
    writing), is made. Raises StartRefused: 78 if other users can read it, if it is no text or too short."""
    try:
        if file.stat().st_mode & 0o077:
            raise StartRefused(f"the token file {file} can be read by others; run: chmod 600 {file}", 78)
        token = file.read_text().strip("\0 \t\r\n")  # a crash of the machine leaves zeros
    except FileNotFoundError:
        token = ""
    except OSError as error:
        raise start_refused(f"the token file {file} cannot be read", error) from None
    except UnicodeDecodeError:
        raise StartRefused(f"the token file {file} is no text; remove it to get a new one", 78) from None
    if not token:
        token = PREFIX + secrets.token_urlsafe(32)
        if file.is_symlink():  # whoever made it meant another file, that is not there or empty
            raise StartRefused(f"the token file {file} cannot be written: it is a link to no token", 78)
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_durably(str(file.parent), file.name, token + "\n")
        except OSError as error:
            raise start_refused(f"the token file {file} cannot be written", error) from None
    if len(token) < 20:
        raise StartRefused(f"the token in {file} is too short; remove the file to get a new one", 78)
    return token
