"""Jobs of others, as everybody sees them: id, user, state, GPUs and times; and as operators see them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import UNSET

from leptond import schema
from leptond.api.views import bodies
from leptond.core.access.rights import Rights, Sight
from leptond.core.accounting.report_types import LedgerHistory
from leptond.core.jobs import model
from leptond.core.jobs.model import LIVE
from leptond.store.accounting.timeline import Lane

PRIVATE = "(private)"
"""Stands for the name of a job of others; no job can be called so."""

_NO_SPEC = model.JobSpec(argv=[PRIVATE])


def outline(
    one: model.Job,
    attempts: Sequence[model.Attempt],
    *,
    now: float,
    boot: float,
    starts_at: float | None,
) -> schema.Job:
    """Return a job without anything that its owner has not made public."""
    last = attempts[-1] if attempts else None
    return schema.Job(
        private=True,
        id=one.id,
        ref=one.ref,
        name=PRIVATE,
        user=one.user,
        project=None,
        labels={},
        state=one.state,
        priority=0,
        queue="",
        gpus=one.gpus,
        array_id=one.array_id,
        array_index=one.array_index,
        submitted_at=bodies.instant(one.submitted_at),
        starts_at=bodies.maybe_instant(starts_at),
        started_at=bodies.maybe_instant(one.started_at),
        ended_at=bodies.maybe_instant(one.ended_at),
        run_s=bodies.run_s(one, last, now=now, boot=boot),
        gpu_indices=[gpu.index for gpu in last.gpus] if one.state in LIVE and last is not None else [],
        gpu_seconds=sum(bodies.gpu_seconds(each, boot) for each in attempts),
        checkpoint_dir="",
        version=0,
        spec=_NO_SPEC,
    )


def details(shown: schema.Job) -> schema.Job:
    """Return a job as an operator sees it: without its command, its labels, its progress and its paths."""
    return msgspec.structs.replace(
        shown,
        private=True,
        labels={},
        contact=None,
        explanation=None,
        checkpoint_dir="",
        log_path=None,
        progress=None,
        tuned={},
        script_sha256=None,
        spec=_NO_SPEC,
        resubmit=UNSET,
        sources=UNSET,
    )


def attempt(one: schema.Attempt) -> schema.Attempt:
    """Return an attempt as an operator sees it: without texts that come from the job."""
    return msgspec.structs.replace(one, explanation=None, evidence=[], notes=[], signature=None)


def bar(shown: schema.Bar, one: Lane, rights: Rights) -> schema.Bar:
    """Return a bar of the timeline as a caller sees it."""
    if rights.sight(one.user, one.project) is Sight.OUTLINE:
        return msgspec.structs.replace(shown, name=PRIVATE, class_=None, exit_code=None, state="")
    return shown


def history(found: LedgerHistory, rights: Rights) -> LedgerHistory:
    """Return what a cost report is made from, without names and projects that are not for the caller."""
    if rights.sees_everything:
        return found
    shows = rights.visible.shows
    return msgspec.structs.replace(
        found,
        attempts=[
            one if shows(one.user, one.project) else msgspec.structs.replace(one, name="", project=PRIVATE)
            for one in found.attempts
        ],
        daily_totals=[
            one if shows(one.user, one.project or None) else msgspec.structs.replace(one, project=PRIVATE)
            for one in found.daily_totals
        ],
    )
