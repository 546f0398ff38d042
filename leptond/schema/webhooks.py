"""Webhooks and their deliveries."""

from __future__ import annotations

from datetime import datetime

import msgspec


class WebhookDelivery(msgspec.Struct, kw_only=True):
    """An event that a hook was sent. `result`: delivered, refused (not worth another try), failed (given up
    after several). `status`: of the last answer, null when there was none."""

    event_id: int
    event: str
    at: datetime
    tries: int
    result: str
    status: int | None = None
    error: str | None = None


class Webhook(msgspec.Struct, kw_only=True):
    """A hook of the configuration. `behind`: events that it has still to be looked through for."""

    name: str
    url: str
    events: list[str]
    signed: bool
    behind: int
    deliveries: list[WebhookDelivery]
