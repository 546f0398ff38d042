"""Submits over HTTP: one job, an array, or a batch."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import time
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from leptond import schema
from leptond.api.http import omitted
from leptond.api.http.batch_decoding import decode_batch
from leptond.api.http.context import Context
from leptond.api.http.routing import Call, Reply, Table
from leptond.base.errors import BadRequest, TooMany
from leptond.core.access import run_as
from leptond.core.access.caller import Caller
from leptond.core.access.policies import Policy
from leptond.core.admission.admission import Admitted
from leptond.core.jobs.model import JobSpec, State
from leptond.services.admission import Admission, budget_warnings
from leptond.services.submit_look import Seen
from leptond.store import Connection
from leptond.store.queue import compact_arrays, idempotency, intake
from leptond.store.queue.intake import Key, Submit
from leptond.store.queue.submit import Stored, Together, remembered

table = Table("jobs")

LARGE = 100
"""Batches of more jobs than this do not share a transaction with others of their kind."""

KEY_HEADER = {
    "Idempotency-Key": "the same key and body again give the same body as answer, with status 200 instead of"
    " 201, and no further job"
}
KEY = re.compile(r"^[\x21-\x7e]{1,255}\Z")


@table.route(
    "POST",
    "/v1/jobs",
    Policy.SUBMIT,
    headers=KEY_HEADER,
    body=JobSpec,
    answer=schema.Submitted,
    status=201,
    also=(200,),
    errors=(409, 507),
)
async def submit(call: Call) -> Reply:
    """Submit a job; the answer comes when it is on disk. An Idempotency-Key makes it safe to send twice."""
    stored, new = await submit_all(call, [call.body], unsaid=[omitted.gpus_of_job(call.raw)])
    answer = _submitted(stored[0])
    return Reply(answer, status=201 if new else 200, headers={"Location": f"/v1/jobs/{answer.id}"})


@table.route(
    "POST",
    "/v1/jobs:batch",
    Policy.SUBMIT,
    headers=KEY_HEADER,
    body=schema.Batch,
    answer=schema.BatchSubmitted,
    status=201,
    also=(200,),
    large_body=True,
    decode=decode_batch,
    errors=(409, 507),
)
async def submit_batch(call: Call) -> Reply:
    """Submit many jobs: all of them, or none."""
    stored, new = await submit_all(call, call.body.jobs, unsaid=omitted.gpus_of_batch(call.raw))
    return Reply(schema.BatchSubmitted(jobs=[_submitted(one) for one in stored]), status=201 if new else 200)


def _submitted(stored: Stored) -> schema.Submitted:
    return schema.Submitted(
        id=stored.id,
        ids=list(stored.ids),
        array_id=stored.array_id,
        name=stored.name,
        state=State.PENDING,
        warnings=stored.warnings,
    )


async def submit_all(
    call: Call,
    specs: list[JobSpec],
    *,
    unsaid: Sequence[bool],
    together: Together | None = None,
    beside: Callable[[Connection, list[Stored]], None] | None = None,
) -> tuple[list[Stored], bool]:
    """Let specs through the door and store them, all or none, as :func:`leptond.store.queue.jobs.submit`;
    return whether they are new. What came before under the same Idempotency-Key is answered as it was then,
    whatever has changed since. `unsaid`: whether each says nothing of GPUs."""
    caller, accounts = call.caller, call.context.settings.accounts
    run_as.must_run(accounts, uid=caller.uid, name=caller.user, daemon_uid=os.geteuid())
    _rate_limit(call.context, caller, len(specs))
    key = _key_of(call)
    user = caller.user
    if key is not None:
        answer = await call.context.store.look(idempotency.recall, user, key.key, key.body_sha256)
        if answer is not None:
            return remembered(answer), False
    if call.context.disk_guard is not None:
        call.context.disk_guard.check_accepts_jobs()
    settings, now = call.context.settings, call.context.clock.wall()
    in_batch = call.request.path.endswith(":batch")

    facts = await call.context.admission_facts.get()
    admission = Admission(facts, settings, call.caller)
    admit = partial(admission.admit_all, specs, in_batch=in_batch, unsaid=unsaid)
    admitted = await asyncio.to_thread(admit) if len(specs) > LARGE else admit()
    seen = await call.context.file_look.at_submit(
        admitted,
        user=user,
        uid=caller.uid,
        path=settings.jobs.path,
        in_batch=in_batch,
        unsaid=admission.may_forget(admitted, unsaid=unsaid),
    )
    store, words = call.context.store, list[str]()
    if facts.has_budgets:
        words = await store.look(partial(budget_warnings, admitted=admitted, user=user, now=now))
    warnings = admission.warnings(admitted, seen, words)
    one = Submit(
        admitted=_with_sources(admitted, seen),
        user=user,
        uid=caller.uid,
        now=now,
        max_pending=settings.queue.max_pending,
        key=key,
        caps=settings.shares.limits(),
        together=together,
        beside=beside,
        warnings=warnings,
    )
    # jobs that are held start nothing
    wakes = not all(spec.hold for spec in specs)
    if one.is_plain:
        stored, new = await store.write_merged(intake.submit_each, one, wakes_scheduler=wakes)
    else:
        async with call.context.bulk if len(specs) > LARGE else contextlib.nullcontext():
            stored, new = await store.write(intake.submit, one, wakes_scheduler=wakes)
    if any(one.count > compact_arrays.OVER for one in stored):
        call.context.expand_arrays()
    return stored, new


def _with_sources(admitted: Sequence[Admitted], seen: Sequence[Seen]) -> list[Admitted]:
    """Return the jobs with the files that were seen; what was one object stays one."""
    found: dict[int, Admitted] = {}
    for one, its in zip(admitted, seen, strict=True):
        if id(one) not in found:
            found[id(one)] = (
                one if its.sources == one.sources else msgspec.structs.replace(one, sources=its.sources)
            )
    return [found[id(one)] for one in admitted]


def _key_of(call: Call) -> Key | None:
    """The Idempotency-Key of a request with the digest of its body. Raises BadRequest."""
    key = call.request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not KEY.match(key):
        raise BadRequest("the Idempotency-Key must be 1 to 255 visible ASCII characters")
    return Key(key=key, body_sha256=hashlib.sha256(call.raw).hexdigest())


class _Bucket(msgspec.Struct):
    level: float
    at: float


_buckets: dict[tuple[int, str], _Bucket] = {}


def _rate_limit(context: Context, caller: Caller, count: int) -> None:
    """A token bucket per user; a batch counts as one for each hundred jobs."""
    http = context.settings.http
    now = time.monotonic()
    bucket = _buckets.setdefault((id(context), caller.user), _Bucket(float(http.submit_burst), now))
    bucket.level = min(http.submit_burst, bucket.level + (now - bucket.at) * http.submits_per_s)
    bucket.at = now
    price = 1 + count // 100
    if bucket.level < price:
        raise TooMany("too many submits", hint="use POST /v1/jobs:batch", headers={"Retry-After": "1"})
    bucket.level -= price
