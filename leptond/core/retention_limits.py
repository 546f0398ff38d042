"""How long finished things are kept."""

from __future__ import annotations

import msgspec


class Keep(msgspec.Struct, frozen=True, kw_only=True):
    """How long finished jobs, the output of ended attempts and events are kept, in seconds; how many finished
    jobs, and how many bytes of output. 0: no limit."""

    job_age_s: float = 0.0
    max_jobs: int = 0
    log_age_s: float = 0.0
    log_total_bytes: int = 0
    event_age_s: float = 0.0
