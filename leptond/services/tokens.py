"""Tokens and sessions while the daemon runs: kept in memory, so that a request costs no look at the database,
and written before they count. A token that is revoked ends the streams that it has opened."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import Callable, Iterator

from msgspec.structs import replace

from leptond.base.clock import Clock
from leptond.base.errors import TooMany
from leptond.base.tokens import PREFIX
from leptond.core.access.roles import Role
from leptond.services.loop import Loop
from leptond.store import Store
from leptond.store.access import tokens
from leptond.store.access.tokens import Kind, Token

USES_S = 60.0
"""Seconds between two writes of when tokens were last used."""

MOST_OF_ONE = 200
"""Most tokens of one person, and most sessions, of which the oldest then ends."""


def digest(secret: str) -> str:
    """Return the SHA-256 of a secret, in hex. Secrets have 256 random bits: no slow hash is needed."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


class TokenRegistry:
    """The tokens and sessions that are valid."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._by_digest: dict[str, Token] = {}
        self._uses: dict[str, float] = {}
        self._streams: dict[str, set[Callable[[], None]]] = {}
        self._loop = Loop("tokens", self.write_uses, gather_s=USES_S)

    async def load(self) -> None:
        """Read what is stored; what has expired is forgotten."""
        await self._store.write(tokens.forget_expired, self._clock.wall(), wakes_scheduler=False)
        self._by_digest = {one.sha256: one for one in await self._store.read(tokens.every)}

    def find(self, secret: str) -> Token | None:
        """Return the token with this secret, if it is valid now."""
        found = self._by_digest.get(digest(secret))
        now = self._clock.wall()
        if found is None or found.expires_at <= now:
            return None
        if not self._uses:
            self._loop.wake()
        self._uses[found.id] = now
        return found

    def all(self) -> list[Token]:
        """Return all that are valid, the oldest first, each with its last use."""
        now = self._clock.wall()
        return [
            replace(one, last_used_at=self._uses.get(one.id, one.last_used_at))
            for one in self._by_digest.values()
            if one.expires_at > now
        ]

    async def make(
        self, kind: Kind, name: str, user: str, uid: int | None, role: Role, *, lifetime_s: float, by: str
    ) -> tuple[Token, str]:
        """Make a token; return it and its secret, which is told once. It is on disk when this returns.
        Raises TooMany."""
        own = [one for one in self.all() if (one.user, one.kind) == (user, kind)]
        if len(own) >= MOST_OF_ONE and kind == "session":
            await self.revoke(own[0], by="leptond")
        elif len(own) >= MOST_OF_ONE:
            raise TooMany(f"{user} has {len(own)} tokens", hint="`leptonctl token revoke` ends some")
        secret = PREFIX + secrets.token_urlsafe(32)
        now = self._clock.wall()
        token = Token(
            id=secrets.token_hex(4),
            kind=kind,
            sha256=digest(secret),
            name=name,
            user=user,
            uid=uid,
            role=role,
            made_by=by,
            made_at=now,
            expires_at=now + lifetime_s,
        )
        await self._store.write(tokens.add, token, wakes_scheduler=False)
        self._by_digest[token.sha256] = token
        return token, secret

    async def revoke(self, token: Token, *, by: str) -> None:
        """Make a token worthless at once, and end its streams; it is off the disk when this returns."""
        self._by_digest.pop(token.sha256, None)
        self._end_streams(token.id)
        await self._store.write(tokens.remove, token, by, self._clock.wall(), wakes_scheduler=False)

    @contextlib.contextmanager
    def streaming(self, token: Token, end: Callable[[], None]) -> Iterator[None]:
        """Call `end` when the token is revoked or expires while the block runs."""
        left_s = max(0.0, token.expires_at - self._clock.wall())
        timer = asyncio.get_running_loop().call_later(min(left_s, 86400.0 * 365), end)
        open_ones = self._streams.setdefault(token.id, set())
        open_ones.add(end)
        try:
            yield
        finally:
            timer.cancel()
            open_ones.discard(end)
            if not open_ones:
                self._streams.pop(token.id, None)

    def _end_streams(self, token_id: str) -> None:
        for end in list(self._streams.get(token_id, ())):
            end()

    async def run(self) -> None:
        """Write now and then when tokens were used, and forget what has expired. Until cancelled."""
        await self._loop.run()

    async def write_uses(self) -> None:
        """Write when tokens were last used, if any were. Raises StoreError."""
        now = self._clock.wall()
        expired = [one for one in self._by_digest.values() if one.expires_at <= now]
        used, self._uses = self._uses, {}
        if not (used or expired):
            return
        await self._store.write(tokens.note_uses, used, now, wakes_scheduler=False)
        for one in expired:
            self._by_digest.pop(one.sha256, None)
        for sha256, one in self._by_digest.items():
            if one.id in used:
                self._by_digest[sha256] = replace(one, last_used_at=used[one.id])
