"""Callers of the API, and what they may do."""

from types import SimpleNamespace

from leptond.core.access.caller import Caller
from leptond.core.access.roles import Role

ANA = Caller(user="ana", uid=1001, role=Role.USER)
ADMIN = Caller(user="root", uid=0, role=Role.ADMIN)
JOB = SimpleNamespace(user="ana", ref="47")


def test_each_role_includes_the_one_before():
    ranked = [Role.VIEWER, Role.USER, Role.OPERATOR, Role.ADMIN]
    for low, one in enumerate(ranked):
        for high, other in enumerate(ranked):
            assert other.covers(one) == (high >= low)
            assert one.at_most(other) is ranked[min(low, high)]
