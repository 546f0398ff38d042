"""Wrong tokens, links and sessions, counted by address: guesses are slowed down, whatever they are for."""

from __future__ import annotations

import time
from collections import deque

from aiohttp import web

from leptond.base.errors import TooMany

MOST = 10
WITHIN_S = 60.0
MAX_ADDRESSES = 1024


class WrongSecrets:
    """Counts, for the newest addresses."""

    def __init__(self) -> None:
        self._failures: dict[str, deque[float]] = {}

    def count(self, request: web.Request) -> None:
        """Count a wrong secret. Raises TooMany for more than MOST from one address within WITHIN_S."""
        address, now = request.remote or "unknown", time.monotonic()
        if address not in self._failures and len(self._failures) >= MAX_ADDRESSES:
            self._failures.clear()
        failures = self._failures.setdefault(address, deque(maxlen=MOST))
        if len(failures) == MOST and failures[0] > now - WITHIN_S:
            raise TooMany("too many wrong tokens from this address", headers={"Retry-After": "60"})
        failures.append(now)
