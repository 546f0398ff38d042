"""Roles by the configuration, who sees whose jobs, and what a caller may do to single jobs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptond.base.errors import Forbidden, NotFound
from leptond.core.access.caller import Caller
from leptond.core.access.policies import NEEDED, NOT_FOR_JOBS, Policy, check, fits_method
from leptond.core.access.rights import OPERATORS_EDIT, Rights, Sight
from leptond.core.access.roles import Role
from leptond.core.access.rules import AccessRules, ProjectRules

NAMES = ("ana", "bo", "cy")
GROUPS = ("vision", "oncall", "leptond-admin")
named = st.lists(st.sampled_from([*NAMES, *(f"@{group}" for group in GROUPS)]), unique=True)
groups = st.frozensets(st.sampled_from(GROUPS))
visibility = st.sampled_from(["private", "project", "all"])
project_rules = st.builds(ProjectRules, visibility=visibility, members=named)
rules = st.builds(
    AccessRules,
    default_role=st.sampled_from(["viewer", "user"]),
    viewers=named,
    operators=named,
    admins=named,
    visibility=visibility,
    projects=st.dictionaries(st.sampled_from(["vision", "text"]), project_rules),
)
callers = st.builds(
    Caller,
    user=st.sampled_from(NAMES),
    uid=st.just(1000),
    role=st.sampled_from(list(Role)),
    groups=groups,
    job=st.sampled_from([None, 7]),
)
projects = st.sampled_from([None, "vision", "text", "oncall"])


def is_named(names, user, of):
    return user in names or any(f"@{group}" in names for group in of)


@given(rules, st.sampled_from(NAMES), groups)
def test_the_highest_role_that_names_an_account_counts(one, user, of):
    found = one.role_of(user, of)
    assert (found is Role.ADMIN) == is_named(one.admins, user, of)
    if found is Role.OPERATOR:
        assert is_named(one.operators, user, of)
    if found is Role.USER:
        assert one.default_role == "user"
        assert not is_named([*one.admins, *one.operators, *one.viewers], user, of)


@given(rules, callers, st.sampled_from(NAMES), projects)
def test_a_job_is_seen_by_its_owner_its_project_and_administrators_alone(one, caller, owner, project):
    shows = one.visible_to(caller).shows(owner, project)
    rule = one.projects.get(project) if project is not None else None
    how = rule.visibility if rule is not None else one.visibility
    members = (rule.members if rule is not None else ()) or [f"@{project}"]
    expected = (
        caller.role is Role.ADMIN
        or owner == caller.user
        or how == "all"
        or (how == "project" and project is not None and is_named(members, caller.user, caller.groups))
    )
    assert shows == expected


@given(rules, callers, st.sampled_from(NAMES), projects, st.booleans())
def test_nobody_changes_more_than_the_role_says(one, caller, owner, project, operators):
    rights = Rights(caller=caller, visible=one.visible_to(caller))
    seen = rights.sight(owner, project)
    mine = owner == caller.user
    operator = operators and caller.role.covers(Role.OPERATOR)
    try:
        rights.must_change(owner, project, "47", operators=operators)
        changed = True
    except NotFound:
        changed = False
        assert seen is Sight.OUTLINE
    except Forbidden:
        changed = False
        assert seen is not Sight.OUTLINE
    assert changed == (mine or caller.role is Role.ADMIN or operator)
    if not mine and not caller.admin:
        rights.must_edit(owner, "47", OPERATORS_EDIT)
        with pytest.raises(Forbidden):
            rights.must_edit(owner, "47", {"priority", "name"})


@given(callers, st.sampled_from(list(Policy)))
def test_a_policy_asks_for_its_role_and_keeps_jobs_out(caller, policy):
    needed = NEEDED[policy]
    may = needed is None or (
        caller.role.covers(needed) and not (caller.job is not None and policy in NOT_FOR_JOBS)
    )
    try:
        check(policy, caller)
        assert may
    except Forbidden:
        assert not may


def test_every_policy_has_a_role():
    assert set(NEEDED) == set(Policy)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_policy_that_only_looks_is_not_for_what_changes(method):
    assert not fits_method(Policy.LOOK, method)
    assert not fits_method(Policy.OPEN, method)
    assert fits_method(Policy.CHANGE, method)
    assert fits_method(Policy.LOOK, "GET")
