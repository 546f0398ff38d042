"""The database over HTTP: facts, copies, and purges."""

import hashlib
import sqlite3
from contextlib import closing

import pytest


def jobs_in(path):
    with closing(sqlite3.connect(path)) as db:
        return [row[0] for row in db.execute("SELECT id FROM jobs ORDER BY id")]


async def test_a_copy_is_whole_and_leaves_nothing_behind(world, tmp_path):
    job = await world.submit()
    answer = await world.get("/v1/db/backup")
    assert answer.status == 200
    assert answer.headers["X-Checksum-Sha256"] == hashlib.sha256(answer.data).hexdigest()
    (tmp_path / "copy.db").write_bytes(answer.data)
    assert jobs_in(tmp_path / "copy.db") == [job]
    assert not list(tmp_path.glob(".backup-*"))


async def test_kept_backups_are_listed_with_the_facts(world, tmp_path):
    before = (await world.get("/v1/db")).json
    assert (before["backups"], before["path"]) == ([], str(world.store.path))
    assert before["bytes"] == world.store.path.stat().st_size
    taken = await world.post("/v1/db/backups")
    assert taken.status == 201
    assert (await world.get("/v1/db")).json["backups"] == [taken.json]
    assert (tmp_path / "backups" / taken.json["name"]).stat().st_size == taken.json["bytes"]


async def test_a_purge_says_first_what_would_go(world):
    old, running = await world.submit(), await world.submit()
    await world.finish(await world.start(old))
    await world.start(running)
    dry = await world.post("/v1/purge", {"older_than_s": 1e-9, "dry_run": True})
    assert (dry.json["jobs"], dry.json["job_ids"], dry.json["dry_run"]) == (1, [old], True)
    assert (await world.get(f"/v1/jobs/{old}")).status == 200
    done = await world.post("/v1/purge", {"older_than_s": 1e-9})
    assert (done.json["job_ids"], done.json["dry_run"]) == ([old], False)
    assert (await world.get(f"/v1/jobs/{old}")).status == 404
    assert (await world.get(f"/v1/jobs/{running}")).status == 200


async def test_a_purge_of_what_is_over_the_configured_limits(world):
    job = await world.submit()
    await world.finish(await world.start(job))
    assert (await world.post("/v1/purge")).json["jobs"] == 0, "it is young"


@pytest.mark.parametrize(
    "body", [{"older_than_s": 0}, {"older_than_s": -1}, {"older": 1}, {"dry_run": "yes"}]
)
async def test_a_purge_that_is_not_understood_removes_nothing(world, body):
    job = await world.submit()
    await world.finish(await world.start(job))
    assert (await world.post("/v1/purge", body)).status == 422
    assert (await world.get(f"/v1/jobs/{job}")).status == 200
