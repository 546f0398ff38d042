"""The webhooks of the configuration and what they were sent."""

from __future__ import annotations

import sqlite3
from urllib.parse import urlsplit

from leptond.api import types, views
from leptond.api.routing import Call, Table
from leptond.core.webhooks import is_web
from leptond.store import events, webhooks

table = Table("webhooks")

SHOWN = 20


@table.route("GET", "/v1/webhooks", answer=list[types.Webhook])
async def list_webhooks(call: Call) -> list[types.Webhook]:
    """The webhooks, how far each has been told, and its last deliveries."""
    call.who.must_be_admin()
    hooks = call.context.settings.webhooks.hooks

    def look(db: sqlite3.Connection) -> list[types.Webhook]:
        last = events.last_id(db)
        return [
            types.Webhook(
                name=hook.name,
                url=_without_secrets(hook.url),
                events=list(hook.events),
                signed=bool(hook.secret_file),
                behind=last - webhooks.position_of(db, hook.name, last),
                deliveries=[
                    types.WebhookDelivery(
                        event_id=one.event_id,
                        event=one.event,
                        at=views.instant(one.at),
                        tries=one.tries,
                        result=one.result,
                        status=one.status,
                        error=one.error,
                    )
                    for one in webhooks.deliveries(db, hook.name, SHOWN)
                ],
            )
            for hook in hooks
        ]

    return await call.context.store.read(look)


def _without_secrets(url: str) -> str:
    """Scheme and host: services put their secret into the path, and apprise's into the host as well."""
    if not is_web(url):
        return f"{url.partition(':')[0]}://..."
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}" + (f":{parts.port}" if parts.port else "") + "/..."
