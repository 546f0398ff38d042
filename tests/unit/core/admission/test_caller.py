"""Callers of the API, and what they may do."""

from types import SimpleNamespace

import pytest

from leptond.base.errors import Forbidden
from leptond.core.admission.caller import Caller

ANA = Caller(user="ana", uid=1001, admin=False)
ADMIN = Caller(user="root", uid=0, admin=True)
JOB = SimpleNamespace(user="ana", ref="47")


def test_a_job_is_changed_by_its_owner_and_by_admins():
    ANA.must_own(JOB)
    ADMIN.must_own(JOB)
    with pytest.raises(Forbidden, match="job 47 belongs to ana"):
        Caller(user="bo", uid=1002, admin=False).must_own(JOB)


def test_what_only_admins_may_do():
    ADMIN.must_be_admin()
    with pytest.raises(Forbidden, match="only the daemon's own user and root"):
        ANA.must_be_admin()


@pytest.mark.parametrize(
    ("daemon_uid", "uid", "allowed"),
    [(1000, 1001, True), (0, 0, True), (0, None, True), (0, 1001, False)],
)
def test_no_job_gets_more_rights_than_its_submitter_has(daemon_uid, uid, allowed):
    caller = Caller(user="ana", uid=uid, admin=False)
    if allowed:
        caller.must_submit(daemon_uid)
    else:
        with pytest.raises(Forbidden, match="runs as root"):
            caller.must_submit(daemon_uid)
