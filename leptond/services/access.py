"""Jobs and arrays as a caller may have them: the one way by which routes come to a single one. A job that is
not for the caller is answered as one that does not exist."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from leptond.core.access.rights import Rights, Sight
from leptond.core.access.roles import Role
from leptond.core.accounting.budgets import Budget
from leptond.core.jobs.missing import no_such_array
from leptond.core.jobs.model import Job
from leptond.core.scheduling.fair_share import UsageOwner
from leptond.store import Connection
from leptond.store.database.events import Event
from leptond.store.queue import jobs, ownership
from leptond.store.training import sweeps


def seen_job(db: Connection, rights: Rights, ref: str, least: Sight = Sight.DETAILS) -> Job:
    """Return the job that `ref` names. Raises NotFound, and Forbidden where less than `least` is seen."""
    job = jobs.find(db, ref)
    rights.must_see(job.user, job.project, ref, least)
    return job


def own_job(db: Connection, rights: Rights, ref: str, *, operators: bool = False) -> Job:
    """Return a job that the caller may change. Raises NotFound, Forbidden."""
    job = jobs.find(db, ref)
    rights.must_change(job.user, job.project, ref, operators=operators)
    return job


def must_see_array(db: Connection, rights: Rights, array_id: int) -> None:
    """Raises NotFound for an array that is not there, or of which a member is not for the caller."""
    for one in ownership.of_array(db, array_id):
        if rights.sight(one.user, one.project) is Sight.OUTLINE:
            raise no_such_array(array_id)


def must_own_array(db: Connection, rights: Rights, array_id: int, *, operators: bool = False) -> None:
    """Raises NotFound, or Forbidden, unless the caller may change the array."""
    for one in ownership.of_array(db, array_id):
        rights.must_change_array(one.user, one.project, array_id, operators=operators)


def owner_of_array(db: Connection, rights: Rights, array_id: int) -> str:
    """Return the user of an array that the caller sees. Raises NotFound."""
    must_see_array(db, rights, array_id)
    return ownership.of_array(db, array_id)[0].user


def must_see_sweep(db: Connection, rights: Rights, sweep_id: int, least: Sight = Sight.ALL) -> None:
    """Raises NotFound for a sweep that is not there, or is not for the caller."""
    sweep = sweeps.find(db, sweep_id)
    if not all(rights.sight(one.user, one.project) >= least for one in ownership.of_array(db, sweep_id)):
        raise sweeps.no_such_sweep(sweep.id)


def sees_project(rights: Rights, used: Collection[UsageOwner], project: str) -> bool:
    """Return True if a caller may see the sums of a project: it sees its jobs, or has used GPUs for it
    (`used`: who has used GPUs)."""
    visible, user = rights.visible, rights.caller.user
    if visible.everything or rights.caller.role.covers(Role.OPERATOR) or project in visible.shown:
        return True
    if visible.others and project not in visible.hidden:
        return True
    return any(one.user == user and one.project == project for one in used)


def sees_budget(rights: Rights, used: Collection[UsageOwner], budget: Budget) -> bool:
    """Return True if a caller may see a budget: its own, or that of a project whose sums it sees."""
    if budget.scope == "project":
        return sees_project(rights, used, budget.name)
    return budget.name == rights.caller.user or rights.caller.role.covers(Role.OPERATOR)


PUBLIC = frozenset({"gpu.state", "queue.changed"})
"""Events of no job that everybody sees."""

OUTLINE = frozenset({"job.submitted", "job.state", "job.requeued", "job.purged"})
"""Events of jobs of others that everybody sees, without what they tell beyond the states."""


def seen_events(db: Connection, rights: Rights, found: Sequence[Event]) -> list[Event]:
    """Return those of these events that the caller may see, as it may see them."""
    if rights.sees_everything:
        return list(found)
    owners = ownership.of_jobs(db, {one.job_id for one in found if one.job_id is not None})
    return [seen for one in found if (seen := _seen(rights, owners, one)) is not None]


def _seen(rights: Rights, owners: dict[int, ownership.Owner], one: Event) -> Event | None:
    if one.job_id is None:
        mine = one.data.get("kind", one.data.get("scope")) == "user" and one.data.get("name") == (
            rights.caller.user
        )
        return one if one.type in PUBLIC or mine else None
    owner = owners.get(one.job_id)
    if owner is not None and rights.visible.shows(owner.user, owner.project):
        return one
    if one.type not in OUTLINE:
        return None
    data: dict[str, Any] = {name: one.data[name] for name in ("from", "to") if name in one.data}
    return Event(id=one.id, at=one.at, type=one.type, job_id=one.job_id, attempt=one.attempt, data=data)
