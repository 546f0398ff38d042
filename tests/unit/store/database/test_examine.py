"""The look at a database before it is opened."""

import shutil
import sqlite3

from leptond.base.paths import data_dir
from leptond.store.database.examine import examine
from leptond.store.database.migrate import migrate


def test_a_hot_journal_is_no_damage(tmp_path):
    """What a first start leaves that is killed before the log is in use."""
    db = sqlite3.connect(tmp_path / "live.db", isolation_level=None)
    migrate(db, data_dir("migrations"))
    db.execute("PRAGMA cache_size = 1")
    db.execute("BEGIN")
    db.executemany("INSERT INTO events (at, type) VALUES (0, ?)", [("x" * 900,) for _ in range(500)])
    for suffix in ("", "-journal"):  # as a kill would leave them
        shutil.copyfile(tmp_path / f"live.db{suffix}", tmp_path / f"left.db{suffix}")
    db.close()
    left = {file: file.read_bytes() for file in tmp_path.glob("left.db*")}
    assert len(left) == 2
    newest = len(list(data_dir("migrations").glob("*.sql")))
    assert examine(tmp_path / "left.db", newest) == newest
    assert {file: file.read_bytes() for file in tmp_path.glob("left.db*")} == left
