"""Values of options and arguments, and what completes a job."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from leptond.cli.framework import params
from tests.unit.cli.stub import Answer, Stub, make_job, page


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (params.LIMIT, "45", 2700.0),
        (params.LIMIT, "1-12:00:00", 129600.0),
        (params.SECONDS, "45", 45.0),
        (params.SIZE, "20G", 20 << 30),
        (params.SIGNAL, "USR1@120", ("USR1", 120.0, False)),
        (params.Whole(1, 5), "5", 5),
        (params.Whole(0), "100000", 100000),
        (params.JOB, "47_3", "47_3"),
    ],
)
def test_a_value_of_a_text(kind, text: str, value: object) -> None:
    assert kind(text) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (params.LIMIT, "0"),
        (params.LIMIT, "soon"),
        (params.SECONDS, "x"),
        (params.SIZE, "20Q"),
        (params.Whole(1, 5), "6"),
        (params.Whole(1, 5), "0"),
        (params.Whole(1, 5), "2.5"),
    ],
)
def test_a_mistake_is_a_value_error(kind, text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        kind(text)


def test_instants_are_rfc_3339(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(params, "_now", lambda: datetime(2026, 3, 4, 10, 0, tzinfo=UTC))
    assert params.BEGIN("now+2h") == "2026-03-04T12:00:00Z"
    assert params.SINCE("2h") == "2026-03-04T08:00:00Z"


def test_lists_with_commas_are_one() -> None:
    assert params.commas(("a, b", "", "c,,d")) == ["a", "b", "c", "d"]


def test_jobs_complete_by_number_and_by_a_name_that_is_only_one_jobs(stub: Stub) -> None:
    jobs = [make_job(id=471, name="train"), make_job(id=48, name="eval"), make_job(id=49, name="eval")]
    stub.on("GET", "/v1/jobs", page(*jobs))
    assert params.jobs_like(None, "47") == [("471", "train pending")]
    assert params.jobs_like(None, "tr") == [("train", "471 pending")]
    assert params.jobs_like(None, "ev") == []
    assert [ref for ref, _ in params.jobs_like(None, "")] == ["471", "48", "49", "@last"]


def test_a_shell_that_completes_never_sees_an_error(home: Path, stub: Stub) -> None:
    stub.on("GET", "/v1/jobs", Answer({"no": "items"}))
    assert params.jobs_like(None, "4") == []
    stub.on("GET", "/v1/jobs", Answer(broken=True))
    assert params.jobs_like(None, "4") == []
    assert params.jobs_like("nonsense", "4") == []
    assert params.jobs_like(f"unix://{home}/none.sock", "4") == []
