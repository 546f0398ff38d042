"""What a webhook is told, how it is signed, and when it is tried again. Pure."""

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
    "array.submitted",
    "array.cancelled",
    "array.edited",
    "array.purged",
    "gpu.state",
    "queue.changed",
    "limits.changed",
]
"""What a hook may ask for: the types of the event table, and ``job.ended``."""

MAX_TRIES = 8
BASE_S, CAP_S = 2.0, 600.0


def name_of(kind: str, data: Mapping[str, Any]) -> str:
    """An event's name for subscribers: its type, but ``job.ended`` for a move into a terminal state.

    >>> name_of("job.state", {"to": "failed"}), name_of("job.state", {"to": "running"})
    ('job.ended', 'job.state')
    """
    return "job.ended" if kind == "job.state" and data.get("to") in TERMINAL else kind


def is_http_hook(url: str) -> bool:
    """Whether a hook is sent JSON; the others are services of people."""
    return url.startswith(("http://", "https://"))


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """``sha256=`` and the HMAC-SHA256 (RFC 2104) of timestamp, dot and body, in hexadecimal: who has the
    secret can tell that leptond sent just this, and when, so that an old one cannot be played again.

    >>> signature("secret", "1767225600", b"{}")
    'sha256=fa7eaa06bf97d7815f3f456e97cde70c9e50cb005f01660c8d10b10c21964887'
    """
    return "sha256=" + hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


def retry_delay_s(tries: int, roll: float) -> float | None:
    """Seconds until the next try after `tries` that failed; None when it is given up. `roll` is uniform in
    [0, 1)."""
    return None if tries >= MAX_TRIES else backoff_s(tries, base_s=BASE_S, cap_s=CAP_S, roll=roll)


def is_retryable_status(status: int) -> bool:
    """Whether an answer like this is worth another try: the server's own trouble, or its asking to wait."""
    return status >= 500 or status in (408, 425, 429)
