"""Adoption: what the database knows of the jobs that the disk shows."""

import hashlib

from leptond.attempt_files import layout
from leptond.attempt_files.directory import OnDisk, script
from leptond.core.jobs.model import State
from leptond.store.queue import attempts, jobs, scripts
from leptond.store.recovery import adoption
from tests.support.queue import SHIM, add, db, end, lease

__all__ = ["db"]


def test_jobs_are_known_also_as_compact_members(db):
    first = add(db)
    end(db, lease(db, first).attempt.id)
    array = add(db, array="0-999")
    ids = [first, array, array + 999, 5000]
    assert adoption.known(db, ids) == {first, array, array + 999}
    assert set(adoption.unfinished(db, ids)) == {array, array + 999}
    assert adoption.unfinished(db, ids)[array + 999] == adoption.Known(state=State.PENDING, attempt=0)
    assert (adoption.terminal(db, first), adoption.terminal(db, array)) == (True, False)


def test_ids_that_may_have_been_given_out_are_not_given_again(db):
    add(db)
    adoption.jump(db, 100)
    assert adoption.highest_id(db) == 100 + adoption.SPARE_IDS
    assert add(db) == 101 + adoption.SPARE_IDS


def test_an_attempt_without_a_stored_shim_is_listed_until_it_is_identified(db):
    attempt = lease(db, add(db)).attempt
    assert adoption.unidentified(db) == [(attempt.id, 1, 1)]
    adoption.identify(db, attempt.id, SHIM)
    assert adoption.unidentified(db) == []
    assert attempts.get(db, attempt.id).shim == SHIM


def test_starts_are_counted_and_end_the_life_of_a_copy(db):
    db.execute("INSERT INTO meta (key, value) VALUES ('snapshot_at', '1')")
    assert (adoption.starts(db), adoption.is_copy(db)) == (0, True)
    adoption.count_start(db, 4)
    assert (adoption.starts(db), adoption.is_copy(db)) == (4, False)


# -- the script of an unknown job ----------------------------------------------------------------------

SCRIPT = b"echo hi\n"


def an_attempt(place, sha256: str) -> OnDisk:
    """The directory of an ended attempt with its copy of a script, as a shim leaves it."""
    spec = {"argv": ["/w/job.sh"], "retries": 3}
    job = {"spec": spec, "name": "x", "user": "ana", "labels": {}, "gpus": 0, "retries": 3, "priority": 0}
    claim = {"job": {**job, "queue": "default", "script_sha256": sha256}, "gpus": [], "claimed_at": 1.0}
    copy = place / "7" / "1" / layout.SCRIPT_DIR
    copy.mkdir(parents=True)
    (copy / "job.sh").write_bytes(SCRIPT)
    return OnDisk(job_id=7, number=1, attempt_id="a" * 32, boot_id="boot", claim=claim, exit={})


def test_a_job_that_is_taken_in_has_the_script_of_its_attempt(db, tmp_path):
    sha256 = hashlib.sha256(SCRIPT).hexdigest()
    one = an_attempt(tmp_path, sha256)
    assert script(tmp_path, one) == SCRIPT
    adoption.take_in(db, 7, [one], user="ana", now=2.0, boot=2.0, script=script(tmp_path, one))
    found = jobs.find(db, "7")
    assert (found.script_sha256, found.held) == (sha256, False)
    assert scripts.content(db, sha256) == SCRIPT


def test_a_job_whose_script_is_not_as_it_was_does_not_run_again_by_itself(db, tmp_path):
    one = an_attempt(tmp_path, "0" * 64)
    assert script(tmp_path, one) is None
    assert script(tmp_path / "nowhere", one) is None
    adoption.take_in(db, 7, [one], user="ana", now=2.0, boot=2.0, script=None)
    found = jobs.find(db, "7")
    assert (found.retries, found.spec.requeue, found.held) == (0, False, True)
    assert found.hold_reason == "taken in without its script: submit that again"
