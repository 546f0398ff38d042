"""Callers of the API, and what they may do."""

from types import SimpleNamespace

import pytest

from leptond.base.errors import Forbidden
from leptond.core.access.caller import Caller
from leptond.core.access.roles import Role

ANA = Caller(user="ana", uid=1001, role=Role.USER)
ADMIN = Caller(user="root", uid=0, role=Role.ADMIN)
JOB = SimpleNamespace(user="ana", ref="47")


def test_a_job_is_changed_by_its_owner_and_by_admins():
    ANA.must_own(JOB)
    ADMIN.must_own(JOB)
    with pytest.raises(Forbidden, match="job 47 belongs to ana"):
        Caller(user="bo", uid=1002, role=Role.USER).must_own(JOB)


def test_what_only_admins_may_do():
    ADMIN.must_be_admin()
    with pytest.raises(Forbidden, match="only the daemon's own user and root"):
        ANA.must_be_admin()


def test_each_role_includes_the_one_before():
    ranked = [Role.VIEWER, Role.USER, Role.OPERATOR, Role.ADMIN]
    for low, one in enumerate(ranked):
        for high, other in enumerate(ranked):
            assert other.covers(one) == (high >= low)
            assert one.at_most(other) is ranked[min(low, high)]
