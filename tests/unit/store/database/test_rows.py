"""Rows are read by several threads from the first moment on."""

import subprocess
import sys

import pytest

from leptond.core.admission.admission import Defaults, admit
from leptond.core.jobs.model import JobSpec
from leptond.store.database import rows
from leptond.store.queue import jobs
from tests.simulation.store import database

FIRST_READ = """
import sys, threading
from leptond.core.admission.admission import Defaults, admit
from leptond.core.jobs.model import JobSpec
from leptond.store.database import rows
from leptond.store.queue import jobs
from tests.simulation.store import database

db = database()
one = admit(JobSpec(argv=["true"]), gpus=0, home="/", defaults=Defaults())
jobs.submit(db, [one], user="ada", now=1.0, max_pending=10)
row = db.execute("SELECT * FROM jobs").fetchone()
ready = threading.Barrier(8)
sys.setswitchinterval(1e-6)
threads = [threading.Thread(target=lambda: (ready.wait(), rows.job(row))) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_the_values_of_a_row_are_those_of_all_its_columns():
    db = database()
    one = admit(JobSpec(argv=["true"], name="x"), gpus=0, home="/", defaults=Defaults())
    jobs.submit(db, [one], user="ada", now=1.0, max_pending=10)
    row = db.execute("SELECT * FROM jobs").fetchone()
    found = rows.values_of(row)
    assert found == {name: row[name] for name in row.keys()}  # noqa: SIM118
    assert rows.values_of(found) == found
    db.close()


@pytest.mark.parametrize("again", range(4))
def test_threads_that_read_their_first_row_at_once_live(again):
    """Found by killing shims, one start in a hundred: two threads met a type for the first time at once, and
    the daemon died of it."""
    assert subprocess.run([sys.executable, "-c", FIRST_READ], check=False).returncode == 0
