"""The state of the daemon and the identity of the caller."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from leptond.core.access.roles import Role
from leptond.core.jobs.model import State
from leptond.schema.gpus import Gpu
from leptond.schema.jobs import Job


class Me(msgspec.Struct, kw_only=True):
    """The identity of the caller. `read_only`: may only look. `page_url` and `page_url_read_only` sign in to
    the page, each once and within two minutes; null when TCP is off, over TCP, and for jobs. `uid` is null
    for a person without an account on this machine; `job`: the caller is a process of this job; `via`: by
    what it was identified; `sees_everything`: all jobs are shown in full."""

    user: str
    admin: bool
    read_only: bool
    uid: int | None = None
    role: Role = Role.VIEWER
    groups: list[str] = []
    job: int | None = None
    via: Literal["socket", "token", "session"] = "socket"
    token: str | None = None
    sees_everything: bool = False
    page_url: str | None = None
    page_url_read_only: str | None = None


class Slots(msgspec.Struct, kw_only=True):
    total: int
    used: int


class Status(msgspec.Struct, kw_only=True):
    """The running jobs, the waiting ones and why they wait, and the health of all, in one object. `warnings`
    need attention; `accounts`: the rights that jobs have, the daemon's own (`service-user`) or those of their
    submitters (`multi-user`); `notes` are lasting facts of this installation that its users should know.
    `never`: how many of the pending jobs wait for what cannot happen any more. `failed_today`: how many jobs
    failed, ran into their limit or were lost since midnight where the daemon runs; `failed_recently`: the
    newest of 24 hours."""

    version: str
    pid: int
    mode: str
    accounts: str = "service-user"
    state: str
    started_at: datetime
    counts: dict[State, int]
    held: int
    never: int = 0
    gpus: list[Gpu]
    gpu_backend: str
    gpu_note: str | None
    cpu_slots: Slots
    running: list[Job]
    next: list[Job]
    failed_recently: list[Job]
    failed_today: int = 0
    oldest_wait_s: float | None
    warnings: list[str]
    notes: list[str] = []


class Health(msgspec.Struct, kw_only=True):
    status: str
    checks: dict[str, str] = {}
