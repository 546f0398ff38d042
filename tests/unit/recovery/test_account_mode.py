"""A queue that begins to run jobs as their submitters forgets who is on record."""

import os

import pytest

from leptond.recovery.account_mode import MARK, settle_accounts
from leptond.store.queue import jobs
from tests.support.queue import add
from tests.support.store import open_new_store


@pytest.fixture
async def store(tmp_path):
    async with open_new_store(tmp_path / "x.db") as one:
        yield one


def with_uid(db):
    job = add(db)
    jobs.touch(db, job, {"uid": 1234})
    return job


async def uid_of(store, job):
    return (await store.read(jobs.find, str(job))).uid


async def test_the_first_start_of_the_mode_forgets_and_later_ones_do_not(store, tmp_path):
    job = await store.write(with_uid)
    await settle_accounts(store, tmp_path, multi_user=False)
    assert await uid_of(store, job) == 1234
    await settle_accounts(store, tmp_path, multi_user=True)
    assert await uid_of(store, job) is None
    assert (tmp_path / MARK).stat().st_mode & 0o077 == 0
    later = await store.write(with_uid)
    await settle_accounts(store, tmp_path, multi_user=True)
    assert await uid_of(store, later) == 1234
    await settle_accounts(store, tmp_path, multi_user=False)
    assert not (tmp_path / MARK).exists()


@pytest.mark.parametrize("kind", ["link", "foreign"])
async def test_a_mark_that_a_job_has_left_counts_for_nothing(store, tmp_path, kind):
    job = await store.write(with_uid)
    mark = tmp_path / MARK
    if kind == "link":
        mark.symlink_to(tmp_path / "x.db")
    elif os.geteuid() != 0:
        pytest.skip("only root gives files away")
    else:
        mark.touch()
        os.chown(mark, 65534, 65534)
    await settle_accounts(store, tmp_path, multi_user=True)
    assert await uid_of(store, job) is None
    assert mark.stat().st_uid == os.geteuid()
    assert not mark.is_symlink()
