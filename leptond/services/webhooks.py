"""Webhooks: each is sent its events in order, signed, and again until it has accepted them.

Delivery is at least once: a crash between an answer and its record sends an event again, with the same id."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from leptond import __version__
from leptond.base.clock import Clock
from leptond.base.errors import StartRefused, start_refused
from leptond.config import Hook
from leptond.core.messages import message_for
from leptond.core.webhooks import is_http_hook, is_retryable_status, name_of, retry_delay_s, signature
from leptond.services.apprise_hooks import AppriseHook
from leptond.services.loop import Loop
from leptond.store import Store
from leptond.store.database import events
from leptond.store.queue import jobs
from leptond.store.upkeep import webhooks

if TYPE_CHECKING:
    import aiohttp

log = structlog.get_logger("leptond.webhooks")

TIMEOUT_S = 10.0
BATCH = 100
"""Most events read at once."""


class Webhooks:
    """All hooks of the configuration, each with a loop of its own: a slow one does not hold up the others."""

    def __init__(self, hooks: Sequence[Hook], store: Store, clock: Clock) -> None:
        """Raises StartRefused (78) for a secret that cannot be read, an address that apprise does not know,
        or two hooks of one name."""
        names = [hook.name for hook in hooks]
        if len(set(names)) < len(names):
            raise StartRefused(f"two webhooks have the same name: {', '.join(sorted(names))}", 78)
        self._hooks = hooks
        self._secrets = {hook.name: _secret(hook) for hook in hooks}
        self._apprise = {hook.name: AppriseHook(hook) for hook in hooks if not is_http_hook(hook.url)}
        self._store = store
        self._clock = clock
        self._positions: dict[str, int] = {}

    async def run(self) -> None:
        """Run until cancelled; return at once where there are no hooks."""
        if not self._hooks:
            return
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        # aiohttp's own context may know no certificates: see leptond.__main__
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context())
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            asyncio.TaskGroup() as group,
        ):
            for hook in self._hooks:
                loop = Loop(f"webhook-{hook.name}", partial(self._step, hook, session))
                self._store.on_commit(loop.wake)
                group.create_task(loop.run(), name=loop.name)

    async def _step(self, hook: Hook, session: aiohttp.ClientSession) -> float | None:
        """Deliver the next events of a hook."""
        if hook.name not in self._positions:
            self._positions[hook.name] = await self._store.write(
                webhooks.position, hook.name, wakes_scheduler=False
            )
        found = await self._store.read(events.after, self._positions[hook.name], limit=BATCH)
        for event in found:
            if name_of(event.type, event.data) in hook.events:
                await self._deliver(hook, event, session)
            self._positions[hook.name] = event.id
        if found:
            await self._store.write(
                webhooks.passed, hook.name, self._positions[hook.name], wakes_scheduler=False
            )
        return 0.0 if len(found) == BATCH else None

    async def _deliver(self, hook: Hook, event: events.Event, session: aiohttp.ClientSession) -> None:
        """Send one event until it is accepted, refused or given up, and record the result."""
        name = name_of(event.type, event.data)
        payload = await self._payload(name, event)
        body = msgspec.json.encode(payload)
        tries = 0
        while True:
            tries += 1
            if hook.name in self._apprise:
                error = await self._apprise[hook.name].send(message_for(name, event.data, payload["job"]))
                status = 200 if error is None else None
            else:
                status, error = await self._send(hook, name, event.id, body, session)
            if status is not None and 200 <= status < 300:
                result = "delivered"
                break
            if status is not None and not is_retryable_status(status):
                result = "refused"
                break
            wait_s = retry_delay_s(tries, random.random())
            if wait_s is None:
                result = "failed"
                break
            log.info(
                "webhooks.attempt_failed",
                hook=hook.name,
                status=status,
                error=error,
                retry_s=round(wait_s, 1),
            )
            await asyncio.sleep(wait_s)
        if result != "delivered":
            log.warning("webhooks.delivery_failed", hook=hook.name, event_id=event.id, error=error)
        done = webhooks.Delivery(
            hook=hook.name,
            event_id=event.id,
            event=name,
            at=self._clock.wall(),
            tries=tries,
            result=result,
            status=status,
            error=error,
        )
        await self._store.write(webhooks.done, done, wakes_scheduler=False)

    async def _payload(self, name: str, event: events.Event) -> dict[str, Any]:
        job = None
        if event.job_id is not None:
            job = await self._store.read(jobs.summary, event.job_id)
        return {
            "id": event.id,
            "at": event.at,
            "event": name,
            "job_id": event.job_id,
            "attempt": event.attempt,
            "data": event.data,
            "job": job,
        }

    async def _send(
        self, hook: Hook, name: str, event_id: int, body: bytes, session: aiohttp.ClientSession
    ) -> tuple[int | None, str | None]:
        """Send one request. Returns the status of the answer, if there was one, and what went wrong."""
        import aiohttp

        timestamp = str(int(self._clock.wall()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"leptond/{__version__}",
            "X-Leptond-Event": name,
            "X-Leptond-Delivery": f"{hook.name}-{event_id}",
            "X-Leptond-Timestamp": timestamp,
        }
        secret = self._secrets[hook.name]
        if secret is not None:
            headers["X-Leptond-Signature"] = signature(secret, timestamp, body)
        try:
            # a redirect would take the signed body to an address that is not in the configuration
            async with session.post(hook.url, data=body, headers=headers, allow_redirects=False) as answer:
                return answer.status, None if answer.status < 300 else f"HTTP {answer.status} {answer.reason}"
        except (aiohttp.ClientError, TimeoutError) as error:
            return None, str(error) or type(error).__name__


def _secret(hook: Hook) -> str | None:
    if not hook.secret_file:
        return None
    try:
        secret = Path(hook.secret_file).read_text().strip()
    except OSError as error:
        raise start_refused(f"the secret of the webhook {hook.name} cannot be read", error) from None
    except UnicodeDecodeError as error:
        raise StartRefused(f"the secret of the webhook {hook.name} cannot be read: {error}", 78) from None
    if len(secret) < 16:
        raise StartRefused(f"the secret of the webhook {hook.name} has under 16 characters", 78)
    return secret
