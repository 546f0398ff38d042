"""The account of an attempt, and the places that accounts have to reach."""

import os
import pwd

import pytest
from msgspec.structs import replace

from leptond.base.errors import StartRefused
from leptond.core.access.run_as import AccountSettings
from leptond.engines import accounts
from leptond.engines.accounts import Accounts, Refused, check_rights, open_places
from tests.unit.core.jobs.test_model import job_of

JOB = job_of()
OWN = pwd.getpwuid(os.getuid())


async def test_a_service_user_has_no_other_accounts():
    found = Accounts(AccountSettings())
    assert await found.submitter(replace(JOB, uid=4242, user="ana")) is None
    assert found.own.name == OWN.pw_name


async def test_a_job_without_a_uid_and_a_refused_one_say_why(monkeypatch):
    found = Accounts(AccountSettings(mode="multi-user", denied_users=["bo"]))
    for job, word in (
        (replace(JOB, uid=None), "submit it again"),
        (replace(JOB, uid=70_001, user="bo"), "denied_users"),
        (replace(JOB, uid=70_001, user="gone"), "there is no account gone"),
        (replace(JOB, uid=65534, user="nobody"), "no account"),
    ):
        with pytest.raises(Refused, match=word):
            await found.submitter(job)


async def test_an_account_that_may_is_found(monkeypatch):
    settings = AccountSettings(mode="multi-user", min_uid=1, allow_root_jobs=True)
    found = Accounts(settings)
    mail = pwd.getpwnam("mail")
    assert (await found.submitter(replace(JOB, uid=mail.pw_uid, user="mail"))).gid == mail.pw_gid
    with pytest.raises(Refused, match="belongs to the account mail now"):
        await found.submitter(replace(JOB, uid=mail.pw_uid, user="ana"))


def test_only_root_with_its_capabilities_may_run_the_mode(monkeypatch):
    settings = AccountSettings(mode="multi-user")
    check_rights(AccountSettings())
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(StartRefused, match="runs as root"):
        check_rights(settings)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(accounts.accounts, "missing_capabilities", lambda: ["CAP_KILL"])
    with pytest.raises(StartRefused, match="lacks CAP_KILL"):
        check_rights(settings)


@pytest.fixture
def state(tmp_path):
    for above in [tmp_path, *tmp_path.parents[:-2]]:
        above.chmod(0o755)
    (tmp_path / "state").mkdir(0o700)
    return tmp_path / "state"


def mode(path):
    return path.lstat().st_mode & 0o7777


def test_places_are_opened_for_passing_and_all_else_is_closed(state):
    (state / "leptond.db").touch(0o644)
    (state / "backups").mkdir(0o755)
    (state / "jobs").mkdir(0o750)
    (state / "link").symlink_to("/etc/passwd")
    before = mode(state / "link"), os.stat("/etc/passwd").st_mode  # noqa: PTH116
    open_places(state)
    assert [mode(state / name) for name in (".", "jobs", "checkpoints")] == [0o711] * 3
    assert (mode(state / "leptond.db"), mode(state / "backups")) == (0o600, 0o700)
    assert before == (mode(state / "link"), os.stat("/etc/passwd").st_mode)  # noqa: PTH116
    open_places(state)


def test_a_way_that_is_closed_or_open_to_all_is_refused(state):
    state.parent.chmod(0o700)
    with pytest.raises(StartRefused, match=r"chmod o\+x"):
        open_places(state)
    state.parent.chmod(0o777)
    with pytest.raises(StartRefused, match="chmod go-w"):
        open_places(state)
    state.parent.chmod(0o1777)
    open_places(state)


def test_directories_of_another_user_are_refused(state, monkeypatch):
    (state / "jobs").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    with pytest.raises(StartRefused, match="chown 4242"):
        open_places(state)
