"""Webhooks: event names, signatures, and retries. Pure."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, Literal

from leptond.core.jobs.model import TERMINAL
from leptond.core.outcome.retry import backoff_s

EventName = Literal[
    "job.submitted",
    "job.state",
    "job.ended",
    "job.requeued",
    "job.edited",
    "job.held",
    "job.released",
    "job.purged",
    "job.progress",
    "job.tuned",
    "job.source_changed",
    "job.output_failed",
    "job.left_behind",
    "job.gpu_not_given",
    "array.submitted",
    "array.cancelled",
    "array.edited",
    "array.purged",
    "gpu.state",
    "queue.changed",
    "limits.changed",
]
"""Events that a hook may subscribe to: the types of the event table, and ``job.ended``."""

MAX_TRIES = 8
BASE_S, CAP_S = 2.0, 600.0


def name_of(kind: str, data: Mapping[str, Any]) -> str:
    """Return an event's name for subscribers: its type, but ``job.ended`` for a move into a terminal state.

    >>> name_of("job.state", {"to": "failed"}), name_of("job.state", {"to": "running"})
    ('job.ended', 'job.state')
    """
    return "job.ended" if kind == "job.state" and data.get("to") in TERMINAL else kind


def is_http_hook(url: str) -> bool:
    """Return True if a hook is sent JSON over HTTP; others are addresses of apprise services."""
    return url.startswith(("http://", "https://"))


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """Return ``sha256=`` and the HMAC-SHA256 (RFC 2104) of timestamp, dot and body in hexadecimal. Holders of
    the secret can verify the sender and the time, so that old requests cannot be replayed.

    >>> signature("secret", "1767225600", b"{}")
    'sha256=fa7eaa06bf97d7815f3f456e97cde70c9e50cb005f01660c8d10b10c21964887'
    """
    return "sha256=" + hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


def retry_delay_s(tries: int, roll: float) -> float | None:
    """Return the seconds until the next try after `tries` failures; None to give up. `roll` is uniform in [0,
    1)."""
    return None if tries >= MAX_TRIES else backoff_s(tries, base_s=BASE_S, cap_s=CAP_S, roll=roll)


def is_retryable_status(status: int) -> bool:
    """Return True if a response is worth another try: a server error, or a request to wait."""
    return status >= 500 or status in (408, 425, 429)
