"""Doctor's checks of the way to the daemon."""

import os
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from leptond import __version__, schema
from leptond.cli.diagnosis import connection
from leptond.cli.diagnosis.checks import sqlite_version
from leptond.cli.diagnosis.finding import FAIL, OK, WARN
from leptond.client.errors import ClientError
from leptond.client.target import Target, token_file
from leptond.client.transport import Transport
from tests.unit.cli.stub import Answer, Stub, problem

TCP = Target(host="box", port=8370)


def socket_of(path: Path):
    (found,) = connection.socket(Target(path=str(path)))
    return found


def test_a_socket_open_to_all_is_a_warning_with_its_mending(stub: Stub):
    stub.path.chmod(0o660)
    assert socket_of(stub.path).level == OK
    assert "0660" in socket_of(stub.path).detail
    stub.path.chmod(0o666)
    found = socket_of(stub.path)
    assert (found.level, found.fix) == (WARN, f"run: chmod o= {stub.path}")


def test_a_socket_that_is_not_there_or_cannot_be_reached(home: Path):
    found = socket_of(home / "none")
    assert found.level == FAIL
    assert f"looked at {home}/none" in found.detail
    (home / "file").touch()
    found = socket_of(home / "file" / "socket")
    assert (found.level, found.detail) == (FAIL, f"{home}/file/socket: Not a directory")


def test_tcp_needs_a_token_that_only_its_user_can_read(home: Path, monkeypatch):
    assert list(connection.token(Target(path="/socket"))) == []
    (found,) = connection.token(TCP)
    assert found.level == FAIL
    file = Path(token_file(os.environ))
    file.parent.mkdir(parents=True)
    file.write_text("lept_secret")
    file.chmod(0o600)
    assert list(connection.token(TCP)) == []
    file.chmod(0o640)
    (found,) = connection.token(TCP)
    assert (found.level, found.fix) == (WARN, f"run: chmod 600 {file}")
    assert "secret" not in found.detail


def date(by_s: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=by_s), usegmt=True)


@pytest.mark.parametrize("by_s", [60, -60])
def test_a_clock_that_differs_is_a_warning(by_s: float):
    found = connection.clock(date(by_s))
    assert found.level == WARN
    assert found.fix is not None
    assert 58 <= float(found.detail.split()[-2]) <= 62


def test_a_clock_that_agrees_or_cannot_be_compared_is_well():
    assert connection.clock(date(0)).detail.endswith("as the daemon's")
    for nothing in (None, "", "yesterday"):
        found = connection.clock(nothing)
        assert (found.level, found.detail.endswith("UTC")) == (OK, True)


@pytest.fixture
def api(stub: Stub):
    one = Transport.find(f"unix://{stub.path}")
    yield one
    one.close()


def test_a_daemon_that_starts_is_not_ready_and_says_with_what(stub: Stub, api: Transport):
    stub.on(
        "GET",
        "/readyz",
        Answer(schema.Health(status="recovering", checks={"scheduler": "recovering"}), status=503),
        schema.Health(status="ok"),
    )
    found = connection.ready(api)
    assert (found.level, found.detail) == (FAIL, "not yet: recovering")
    assert connection.ready(api).level == OK


def test_a_refusal_is_not_taken_for_a_start(stub: Stub, api: Transport):
    stub.on("GET", "/readyz", problem(401, "a token is needed"))
    with pytest.raises(ClientError):
        connection.ready(api)


def test_the_daemons_own_warnings_are_findings_and_its_version_is_compared():
    own = ".".join(map(str, sqlite_version()))
    status = {
        "version": "0.1.0",
        "warnings": ["the disk is nearly full", f"SQLite {own} has a known fault"],
        "notes": ["accounting is off"],
    }
    version, *others = connection.of_status(status)
    assert (version.level, version.check) == (WARN, "version")
    assert "0.1.0" in version.detail
    assert [one.detail for one in others] == ["the disk is nearly full", "accounting is off"]
    (version,) = connection.of_status({"version": __version__, "warnings": [], "notes": []})
    assert version.level == OK
