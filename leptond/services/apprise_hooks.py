"""Hooks that are not web addresses: chat, mail and push services, reached by the package apprise."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from leptond.base.errors import StartRefused
from leptond.core.messages import Message

if TYPE_CHECKING:
    from leptond.config import Hook

TIMEOUT_S = 30.0


class AppriseHook:
    """A service by its address in the notation of apprise (``slack://...``, ``ntfy://...``,
    ``mailto://...``)."""

    def __init__(self, hook: Hook) -> None:
        """Raises StartRefused (78) where apprise is missing or does not know the address."""
        try:
            import apprise
        except ImportError:
            raise StartRefused(
                f"the webhook {hook.name} needs a package in leptond's environment: pip install apprise",
                78,
            ) from None
        self._service: Any = apprise.Apprise()
        if not self._service.add(hook.url):
            scheme = hook.url.partition(":")[0]
            raise StartRefused(f"the webhook {hook.name}: apprise does not know this {scheme} address", 78)

    async def send(self, notice: Message) -> str | None:
        """Send a notice. Returns what went wrong, or None. A service that hangs costs a thread and no
        more."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                taken = await asyncio.to_thread(
                    self._service.notify, title=notice.title, body=notice.body, notify_type=notice.kind
                )
        except TimeoutError:
            return f"no answer within {TIMEOUT_S:.0f} s"
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return None if taken else "the service did not take it"
