"""The cost report over HTTP."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from leptond.api.http.routing import Call, Table
from leptond.api.views import bodies, outline
from leptond.base.errors import Invalid
from leptond.core.access.policies import Policy
from leptond.core.accounting.report import cost_report
from leptond.core.accounting.report_types import Comparison, CostReport, GroupBy, GroupLine
from leptond.core.scheduling.inputs import PolicyName
from leptond.core.scheduling.what_if import compare_policies
from leptond.store import ODD_ROW
from leptond.store.accounting import daily, ledger
from leptond.store.queue import lists

table = Table("usage")

DEFAULT_S = 7 * 86400.0


class UsageQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The window (the last seven days unless it says otherwise; it ends now at the latest) what to
    group by, and a policy to compare with."""

    since: Annotated[datetime, Meta(tz=True)] | None = None
    until: Annotated[datetime, Meta(tz=True)] | None = None
    group_by: GroupBy | None = None
    against: PolicyName | None = None


class Usage(CostReport, frozen=True, kw_only=True):
    """The ledger of [since, until): every GPU-second in one box. GPU time is in GPU-seconds, costs are in
    `currency` and null where a price is missing."""

    since: datetime
    until: datetime
    comparison: Comparison | None = None


async def _named(call: Call, lines: Sequence[GroupLine]) -> list[GroupLine]:
    """The lines of jobs, whose keys begin with their ids, with what people call them."""
    ids = [int(number) if number.isdecimal() else 0 for number in (line.key.split(" ")[0] for line in lines)]
    refs = await call.context.store.survey(lists.refs, ids)
    return [
        msgspec.structs.replace(line, ref=refs.get(job_id, str(job_id)) if job_id else None)
        for line, job_id in zip(lines, ids, strict=True)
    ]


@table.route("GET", "/v1/usage", Policy.LOOK, query=UsageQuery, answer=Usage)
async def usage(call: Call) -> Usage:
    """Report where the GPU time of a window went: its cost, its waste by cause, and what would save most."""
    query: UsageQuery = call.query
    now = call.context.clock.wall()
    end = min(now, query.until.timestamp()) if query.until is not None else now
    begin = query.since.timestamp() if query.since is not None else end - DEFAULT_S
    if begin >= end:
        raise Invalid(
            "the window is empty: it begins after it ends, or in the future",
            pointer="/since",
            hint="since must be before until, and before now",
        )
    report = functools.partial(
        cost_report,
        begin=ledger.ms(begin),
        end=ledger.ms(end),
        now=ledger.ms(now),
        rates=call.context.settings.cost,
        by=query.group_by,
    )
    history = await call.context.store.survey(daily.history, begin, end)
    history = outline.history(history, call.rights)
    try:
        # a month of many jobs takes seconds: not on the event loop
        found = await asyncio.to_thread(report, history)
    except ODD_ROW:
        history = outline.history(await call.context.store.browse_odd(daily.history, begin, end), call.rights)
        found = await asyncio.to_thread(report, history)
    if query.group_by == "job":
        found = msgspec.structs.replace(found, groups=await _named(call, found.groups))
    comparison = None
    if query.against is not None:
        prices = {device.price for device in history.devices}
        price = max(micros for micros in prices if micros is not None) / 1e6 if prices - {None} else None
        policy = call.context.settings.policy()
        comparison = await asyncio.to_thread(
            compare_policies,
            history,
            ledger.ms(begin),
            ledger.ms(end),
            policy=policy,
            other=msgspec.structs.replace(policy, name=query.against),
            price=price if None not in prices else None,
        )
    fields = {name: getattr(found, name) for name in CostReport.__struct_fields__}
    return Usage(since=bodies.instant(begin), until=bodies.instant(end), comparison=comparison, **fields)
