"""The bearer tokens of the TCP listener, made once and kept in files that only their owner can read. One has
all rights of the daemon's own user, the other (``token.read-only``) may only read. Every other user of the
queue has tokens of its own, which are derived from these and stored nowhere: they end when the file of the
one that they are derived from is removed."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from leptond.base.durable import write_durably
from leptond.base.errors import StartRefused, start_refused

PREFIX = "lept_"
READ_ONLY = ".read-only"
_OF_USER = re.compile(r"^lept_user_([0-9a-f]{2,512})_([0-9a-f]{64})\Z")


@dataclass(frozen=True)
class Tokens:
    """`full` has all rights, `read_only` may only read."""

    full: str
    read_only: str

    def of_user(self, user: str, *, read_only: bool = False) -> str:
        """Return the token with the rights of `user`, or the one with which `user` may only read."""
        key = self.read_only if read_only else self.full
        mac = hmac.new(key.encode(), b"user\0" + user.encode(), hashlib.sha256)
        return f"{PREFIX}user_{user.encode().hex()}_{mac.hexdigest()}"

    def bearer(self, token: str) -> tuple[str, bool] | None:
        """Return whose token it is, and whether it may only read; None for one that :meth:`of_user` did not
        make."""
        found = _OF_USER.match(token)
        if found is None:
            return None
        try:
            user = bytes.fromhex(found[1]).decode()
        except ValueError:
            return None
        for read_only in (False, True):
            if hmac.compare_digest(token, self.of_user(user, read_only=read_only)):
                return user, read_only
        return None


def load_tokens(file: Path) -> Tokens:
    """Return both tokens; see :func:`load_or_create`."""
    return Tokens(full=load_or_create(file), read_only=load_or_create(file.with_name(file.name + READ_ONLY)))


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
