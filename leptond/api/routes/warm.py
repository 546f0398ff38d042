"""Warm starts over HTTP: which environments have a warm process, and what it has learned."""

from __future__ import annotations

import msgspec

from leptond.api.http.routing import Call, Table
from leptond.core.access.policies import Policy
from leptond.core.warm_learning import WarmEnvironment

table = Table("warm starts")


class WarmEnvironmentList(msgspec.Struct, kw_only=True):
    items: list[WarmEnvironment]


@table.route("GET", "/v1/warm-environments", Policy.ADMINISTER, answer=WarmEnvironmentList)
async def warm_environments(call: Call) -> WarmEnvironmentList:
    """List the environments of jobs that may start warm since the daemon's start, and what was learned."""
    return WarmEnvironmentList(items=call.context.warm_environments())
