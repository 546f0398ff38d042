"""`leptonctl db`, against prepared answers; the copies of real daemons are in tests/daemon/test_backup.py."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from leptond.api.routes.database import Backup, Database
from tests.unit.cli.conftest import Cli
from tests.unit.cli.stub import Answer, Stub, plain, problem

CONTENT = b"SQLite format 3\0" + bytes(100_000)
ONE = Backup(name="leptond-1.db", bytes=2 << 20, taken_at=datetime(2026, 3, 4, 10, tzinfo=UTC))


def database(*backups: Backup) -> Database:
    return Database(
        path="/state/leptond.db",
        lineage="abc",
        schema=17,
        sqlite_version="3.45.1",
        bytes=3 << 20,
        log_bytes=0,
        free_bytes=5 << 30,
        backups=list(backups),
    )


def sent(content: bytes = CONTENT, *, checksum: str | None = None) -> Answer:
    return Answer(
        pieces=[content[:1000], content[1000:]],
        headers={
            "Content-Type": "application/vnd.sqlite3",
            "Content-Length": str(len(content)),
            "X-Checksum-Sha256": checksum or hashlib.sha256(content).hexdigest(),
        },
    )


def test_info_names_the_database_and_its_backups(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/db", database(ONE))
    result = cli("db", "info")
    assert result.code == 0
    assert result.out.startswith("/state/leptond.db: schema 17, SQLite 3.45.1\n")
    assert ["backup leptond-1.db", "2 MiB", "2026-03-04T10:00:00Z"] in result.rows
    assert json.loads(cli("--json", "db", "info").out) == plain(database(ONE))


def test_info_without_a_backup_says_how_to_take_one(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/db", database())
    assert "leptonctl db backup" in cli("db", "info").err


def test_a_backup_of_the_daemons_own(cli: Cli, stub: Stub):
    stub.on("POST", "/v1/db/backups", Answer(ONE, status=201))
    assert cli("db", "backup").out.startswith("Backup leptond-1.db (2 MiB)")
    assert json.loads(cli("db", "backup", "--json").out) == plain(ONE)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    one = tmp_path / "backups"
    one.mkdir()
    return one


def test_a_copy_is_whole_and_mine_alone(cli: Cli, stub: Stub, place: Path):
    stub.on("GET", "/v1/db/backup", sent())
    result = cli("db", "backup", str(place / "a.db"), "--json")
    assert json.loads(result.out) == {"path": str(place / "a.db"), "bytes": len(CONTENT)}
    assert (place / "a.db").read_bytes() == CONTENT
    assert (place / "a.db").stat().st_mode & 0o777 == 0o600
    assert list(place.iterdir()) == [place / "a.db"]


def test_a_file_that_is_there_stays_unless_it_is_said(cli: Cli, stub: Stub, place: Path):
    stub.on("GET", "/v1/db/backup", sent())
    (place / "a.db").write_text("mine")
    result = cli("db", "backup", str(place / "a.db"))
    assert result.code == 1
    assert "--force" in result.err
    assert stub.of("GET", "/v1/db/backup") == [], "nothing is fetched in vain"
    assert (place / "a.db").read_text() == "mine"
    assert cli("db", "backup", "--force", str(place / "a.db")).code == 0
    assert (place / "a.db").read_bytes() == CONTENT


def test_a_file_that_comes_meanwhile_is_not_replaced(cli: Cli, stub: Stub, place: Path):
    def answer(_: object) -> Answer:
        (place / "a.db").write_text("mine")
        return sent()

    stub.on("GET", "/v1/db/backup", answer)
    assert cli("db", "backup", str(place / "a.db")).code == 1
    assert (place / "a.db").read_text() == "mine"
    assert list(place.iterdir()) == [place / "a.db"]


@pytest.mark.parametrize(
    "answer",
    [
        sent(checksum="0" * 64),
        problem(507, "there is no space"),
        Answer(broken=True),
        Answer(
            pieces=[CONTENT[:500]],
            headers={
                "Content-Length": str(len(CONTENT)),
                "X-Checksum-Sha256": hashlib.sha256(CONTENT).hexdigest(),
            },
        ),
    ],
    ids=["other bytes", "refused", "cut at once", "cut on the way"],
)
def test_a_copy_that_is_not_whole_is_no_copy(cli: Cli, stub: Stub, place: Path, answer: Answer):
    stub.on("GET", "/v1/db/backup", answer)
    result = cli("db", "backup", str(place / "a.db"))
    assert result.code not in (0, 2)
    assert result.err
    assert list(place.iterdir()) == [], "and nothing is left aside"


@pytest.mark.parametrize("way", ["none/a.db", "file/a.db"])
def test_a_place_that_cannot_be_written_is_one_sentence(cli: Cli, stub: Stub, place: Path, way: str):
    stub.on("GET", "/v1/db/backup", sent())
    (place / "file").touch()
    result = cli("db", "backup", str(place / way))
    assert result.code == 1
    assert "Traceback" not in result.err
    assert way in result.err


def test_recover_lists_what_runs_without_a_daemon(cli: Cli, place: Path):
    result = cli("db", "recover", "--state-dir", str(place))
    assert result.code == 1
    assert f"{place}/jobs cannot be read" in result.err
    (place / "jobs" / "47" / "1").mkdir(parents=True)
    assert json.loads(cli("db", "recover", "--state-dir", str(place), "--json").out) == {
        "state_dir": str(place),
        "items": [],
    }
    assert "0 attempts run under" in cli("db", "recover", "--state-dir", str(place)).err
