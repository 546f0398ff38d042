"""The webhooks of the configuration and their deliveries, over HTTP."""

from __future__ import annotations

from urllib.parse import urlsplit

from leptond import schema
from leptond.api.http.routing import Call, Table
from leptond.api.views import bodies
from leptond.core.access.policies import Policy
from leptond.core.webhooks import is_http_hook
from leptond.store import Connection
from leptond.store.database import events
from leptond.store.upkeep import webhooks

table = Table("webhooks")

SHOWN = 20


@table.route("GET", "/v1/webhooks", Policy.ADMINISTER, answer=list[schema.Webhook])
async def list_webhooks(call: Call) -> list[schema.Webhook]:
    """List the webhooks, how far each has got, and its last deliveries."""
    hooks = call.context.settings.webhooks.hooks

    def fetch(db: Connection) -> list[schema.Webhook]:
        last = events.last_id(db)
        return [
            schema.Webhook(
                name=hook.name,
                url=_without_secrets(hook.url),
                events=list(hook.events),
                signed=bool(hook.secret_file),
                behind=last - webhooks.position_of(db, hook.name, last),
                deliveries=[
                    schema.WebhookDelivery(
                        event_id=one.event_id,
                        event=one.event,
                        at=bodies.instant(one.at),
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

    return await call.context.store.look(fetch)


def _without_secrets(url: str) -> str:
    """Return scheme and host only: services put their secret into the path, apprise into the host as well."""
    if not is_http_hook(url):
        return f"{url.partition(':')[0]}://..."
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}" + (f":{parts.port}" if parts.port else "") + "/..."
