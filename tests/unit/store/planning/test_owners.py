"""Owners of waiting jobs, and arrays that are full."""

from leptond.core.scheduling.fair_share import UsageOwner
from leptond.store.planning import owners
from tests.support.queue import add, db, lease

__all__ = ["db"]


def test_owners_are_found_by_user_and_project(db):
    for user, project in (("ana", None), ("ana", "p"), ("bo", None), ("bo", None)):
        add(db, user=user, gpus=1, project=project)
    add(db, user="cy")
    add(db, user="di", gpus=1, hold=True)
    assert set(owners.waiting(db, 1.0, gpus=True)) == {
        UsageOwner("ana", None, "default"),
        UsageOwner("ana", "p", "default"),
        UsageOwner("bo", None, "default"),
    }
    assert owners.waiting(db, 1.0, gpus=False) == [UsageOwner("cy", None, "default")]


def test_an_array_is_full_when_its_limit_runs(db):
    array = add(db, array="0-3%1")
    assert owners.full_arrays(db) == []
    lease(db, array)
    assert owners.full_arrays(db) == [array]
