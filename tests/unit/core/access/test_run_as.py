"""Who may run jobs as whom: the rule, over all accounts."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptond.base.errors import Forbidden
from leptond.core.access import run_as
from leptond.core.access.run_as import NOBODY, AccountSettings, must_run, protection, refusal

uids = st.one_of(st.none(), st.integers(0, 2**32 - 1), st.sampled_from([0, 999, 1000, 65534]))
names = st.sampled_from(["root", "ana", "bo", "uid-7", ""])


def settings_of(mode):
    return st.builds(
        AccountSettings,
        mode=st.just(mode),
        allow_root_jobs=st.booleans(),
        min_uid=st.integers(1, 5000),
        denied_users=st.lists(st.sampled_from(["bo", "root"]), max_size=2),
    )


def test_its_examples():
    assert doctest.testmod(run_as).failed == 0


@given(settings_of("multi-user"), uids, names, st.sampled_from([0, 1000, 990]))
def test_in_multi_user_only_known_ordinary_accounts_have_jobs(settings, uid, name, daemon_uid):
    found = refusal(settings, uid=uid, name=name, daemon_uid=daemon_uid)
    if found is None:
        assert uid is not None
        assert uid not in NOBODY
        assert name
        assert not name.startswith("uid-")
        assert settings.allow_root_jobs if uid == 0 else uid >= settings.min_uid
        assert uid == 0 or (uid != daemon_uid and name not in settings.denied_users)
    else:
        assert found.why
        assert found.hint
        with pytest.raises(Forbidden):
            must_run(settings, uid=uid, name=name, daemon_uid=daemon_uid)


@given(settings_of("multi-user"), st.integers(5000, 60000))
def test_an_ordinary_account_is_never_refused(settings, uid):
    assert refusal(settings, uid=uid, name="ana", daemon_uid=0) is None


@given(settings_of("service-user"), uids, names, st.sampled_from([0, 990]))
def test_a_service_user_refuses_only_those_whose_jobs_would_be_root(settings, uid, name, daemon_uid):
    found = refusal(settings, uid=uid, name=name, daemon_uid=daemon_uid)
    assert (found is not None) == (daemon_uid == 0 and uid != 0)


def test_what_is_said_of_the_protection():
    assert "not protected" in protection(AccountSettings(), 990)
    assert "only root may submit" in protection(AccountSettings(), 0)
    assert "protected from each other" in protection(AccountSettings(mode="multi-user"), 0)
