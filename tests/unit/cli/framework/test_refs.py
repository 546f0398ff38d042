"""Jobs as they are named on the command line."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator

import pytest

from leptond.cli.framework import refs
from leptond.cli.framework.session import Session
from leptond.client.errors import ClientError
from tests.unit.cli.conftest import Cli
from tests.unit.cli.stub import Stub, make_job, page, problem


def test_a_job_is_also_known_by_its_name_and_as_the_last(cli: Cli, stub: Stub):
    stub.job(id=51)
    stub.on("GET", "/v1/jobs", page(make_job(id=51)))
    assert cli("show", "train.py").rows[0] == ["job", "51"]
    assert cli("show", "@last").rows[0] == ["job", "51"]
    stub.on("GET", "/v1/jobs", page(make_job(id=51), make_job(id=52)))
    several = cli("show", "train.py")
    assert several.rows[0] == ["job", "51"]
    assert "this is the newest, 51" in several.err
    stub.on("GET", "/v1/jobs", page())
    assert cli("show", "nobody").code == 3
    assert cli("why", "47_*").code == 1


@pytest.fixture
def session(stub: Stub) -> Iterator[Session]:
    one = Session()
    yield one
    one.close()


@pytest.mark.parametrize(
    ("ref", "action", "path"),
    [
        ("47", "", "/v1/jobs/47"),
        ("47_3", "cancel", "/v1/jobs/47_3/cancel"),
        ("47_*", "hold", "/v1/arrays/47/hold"),
        ("a/b c", "", "/v1/jobs/a%2Fb%20c"),
    ],
)
def test_a_ref_has_a_path(ref: str, action: str, path: str):
    assert refs.job_path(ref, action) == path


def test_an_array_becomes_its_members_or_stays_whole_when_it_is_large(stub: Stub, session: Session):
    members = [make_job(id=47 + n, ref=f"47_{n}", array_id=47, array_index=n) for n in (1, 0)]
    stub.on("GET", "/v1/jobs/47", members[1])
    stub.on("GET", "/v1/jobs", page(*members))
    stub.on("GET", "/v1/arrays/47", {"counts": {"pending": refs.MANY + 1}})
    assert refs.expand(session, ["47", "47_1"]) == ["47_0", "47_1"]
    assert refs.expand(session, ["47_*", "47_*"], whole=True) == ["47_*"]
    stub.on("GET", "/v1/arrays/47", problem(404, "not known here"))
    assert refs.expand(session, ["47_*"], whole=True) == ["47_0", "47_1"]
    stub.on("GET", "/v1/jobs", page())
    with pytest.raises(ClientError, match="there is no array 47"):
        refs.expand(session, ["47_*"])


def test_an_attempt_is_part_of_one_job(session: Session):
    assert refs.one_with_attempt(session, "47.2") == ("47", 2)
    with pytest.raises(ClientError, match="is an attempt") as caught:
        refs.one(session, "47.2")
    assert caught.value.hint == "say 47"


def test_what_to_wait_for_is_a_job_or_the_whole_of_an_array(stub: Stub, session: Session):
    stub.on("GET", "/v1/jobs/47", make_job(id=47, ref="47_0", array_id=47))
    stub.job(id=51)
    stub.on("GET", "/v1/jobs/9", problem(404, "there is no job 9"))
    stub.on("GET", "/v1/jobs", page())
    assert [refs.awaited(session, text) for text in ("47", "47_2", "51,9", "5-7")] == [
        ["47_*"],
        ["47_2"],
        ["51", "9"],
        ["5", "6", "7"],
    ]
    stub.on("GET", "/v1/jobs", page(make_job(id=48, ref="47_1", array_id=47)))
    assert refs.awaited(session, "@last") == ["47_*"]
    with pytest.raises(ClientError, match="is a range of jobs, and the name"):
        refs.awaited(session, "5-7")
    stub.on("GET", "/v1/jobs/9", problem(403, "not yours"))
    with pytest.raises(ClientError, match="not yours"):
        refs.awaited(session, "9")


def test_the_caller_has_a_name_or_a_number(monkeypatch: pytest.MonkeyPatch):
    assert refs.me() == pwd.getpwuid(os.getuid()).pw_name
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_001)
    assert refs.me() == "uid-4000000001"
