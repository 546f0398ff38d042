"""Accounts, and files with the rights of one of them."""

import os
import pwd
import threading

import pytest

from leptond.base import accounts
from leptond.base.accounts import NoAccount, acting_as, acting_as_owner, acting_as_self, find, recent

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as others")
OTHER = pwd.getpwnam("nobody")


def test_an_account_is_found_by_its_number_if_it_still_has_its_name():
    own = pwd.getpwuid(os.getuid())
    found = find(own.pw_uid, own.pw_name)
    assert (found.gid, found.home) == (own.pw_gid, own.pw_dir)
    assert set(found.groups) == set(os.getgrouplist(own.pw_name, own.pw_gid))
    with pytest.raises(NoAccount, match=f"belongs to the account {own.pw_name} now"):
        find(own.pw_uid, "somebody")
    with pytest.raises(NoAccount, match="there is no account somebody"):
        find(4_123_456_789, "somebody")


def test_what_was_found_is_believed_for_a_moment_alone(monkeypatch):
    own = pwd.getpwuid(os.getuid())
    monkeypatch.setattr(accounts, "_recent", {})
    first = recent(own.pw_uid, own.pw_name)
    monkeypatch.setattr(accounts, "find", lambda uid, name: pytest.fail("it was found a moment ago"))
    assert recent(own.pw_uid, own.pw_name) is first
    monkeypatch.setattr(accounts, "BELIEVED_S", -1.0)

    def gone(uid, name):
        raise NoAccount("gone")

    monkeypatch.setattr(accounts, "find", gone)
    with pytest.raises(NoAccount):
        recent(own.pw_uid, own.pw_name)
    assert accounts._recent == {}


def test_acting_as_nobody_else_changes_nothing(tmp_path):
    with acting_as(None), acting_as_self(), acting_as_owner(tmp_path.stat()):
        (tmp_path / "x").write_text("x")
    assert (tmp_path / "x").stat().st_uid == os.geteuid()


@needs_root
def test_files_are_the_accounts_in_one_thread_alone(tmp_path):
    tmp_path.chmod(0o700)
    account = find(OTHER.pw_uid, "nobody")
    open_to_all = tmp_path / "all"
    open_to_all.mkdir(0o777)
    open_to_all.chmod(0o777)
    for above in [tmp_path, *tmp_path.parents[:-2]]:
        above.chmod(0o711)
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    seen, tell = [], threading.Event()

    def other_thread():
        tell.wait(30)
        seen.append(secret.read_text())

    thread = threading.Thread(target=other_thread)
    thread.start()
    with acting_as(account):
        with pytest.raises(PermissionError):
            secret.read_text()
        with pytest.raises(PermissionError):
            (tmp_path / "y").write_text("y")
        made = open_to_all / "made"
        made.write_text("z")
        assert set(os.getgroups()) == set(account.groups)
        assert os.getresuid() == (0, 0, 0)  # nobody else may signal it
        with acting_as_self():
            assert secret.read_text() == "x"
            with acting_as_owner(made.stat()), pytest.raises(PermissionError):
                secret.read_text()
        with pytest.raises(PermissionError):
            secret.read_text()
        tell.set()
        thread.join(30)
    assert seen == ["x"]
    assert (made.stat().st_uid, made.stat().st_gid) == (OTHER.pw_uid, OTHER.pw_gid)
    assert secret.read_text() == "x"
    assert OTHER.pw_gid not in os.getgroups()


@needs_root
def test_an_error_in_the_block_ends_it_as_well(tmp_path):
    with pytest.raises(ZeroDivisionError), acting_as(find(OTHER.pw_uid, "nobody")):
        raise ZeroDivisionError
    assert os.stat("/proc/self").st_uid == os.geteuid()  # noqa: PTH116
    (tmp_path / "x").write_text("x")


def test_a_machine_whose_call_is_not_known_acts_as_nobody(monkeypatch):
    monkeypatch.setattr(accounts, "SETGROUPS", {})
    account = find(OTHER.pw_uid, "nobody")
    with pytest.raises(OSError, match="cannot be changed"):
        accounts._act(account.uid, account.gid, account.groups)


def test_what_is_missing_is_named(monkeypatch):
    if os.geteuid() == 0:
        assert accounts.missing_capabilities() == []
    monkeypatch.setattr(accounts, "CAPABILITIES", {"CAP_OF_NOBODY": 62})
    assert accounts.missing_capabilities() == ["CAP_OF_NOBODY"]
