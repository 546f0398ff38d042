"""The judgement of a benchmark's row."""

import pytest

from tests.benchmarks.rows import FLOOR, Row, merged


def row(**values: object) -> Row:
    return Row(figure="gap", unit="ms", **{"leptond": (10.0, 8.0, 30.0), **values})  # type: ignore[arg-type]


def test_a_ratio_is_taken_run_by_run() -> None:
    # medians of the columns would say 10 / 4 = 2.5; the runs themselves say 5, 2 and 3
    one = row(floor=(2.0, 4.0, 10.0), against=FLOOR, bar=3.0, stretch=1.0)
    assert one.judged() == (5.0, 2.0, 3.0)
    assert one.result() == 3.0
    assert one.verdict() == "met"


@pytest.mark.parametrize(
    ("better", "bar", "stretch", "verdict"),
    [
        ("lower", 12.0, 10.0, "stretch"),
        ("lower", 12.0, 9.0, "met"),
        ("lower", 9.0, 5.0, "missed"),
        ("higher", 5.0, 10.0, "stretch"),
        ("higher", 5.0, 11.0, "met"),
        ("higher", 11.0, 20.0, "missed"),
        ("lower", None, None, "no bar"),
    ],
)
def test_the_median_is_held_against_bar_and_stretch(
    better: str, bar: float | None, stretch: float | None, verdict: str
) -> None:
    assert row(better=better, bar=bar, stretch=stretch).verdict() == verdict


def test_what_was_not_measured_is_skipped_and_never_met() -> None:
    assert row(leptond=(), bar=12.0).verdict() == "skipped"
    assert row(against="task-spooler", bar=2.0).verdict() == "skipped"
    assert row(against="task-spooler", bar=2.0).as_json()["result"] is None


def test_times_sooner_is_their_time_over_ours() -> None:
    peers = {"cold": (100.0, 160.0, 300.0)}
    one = row(peers=peers, against="cold", times_sooner=True, better="higher", bar=10.0)
    assert one.judged() == (10.0, 20.0, 10.0)
    assert one.verdict() == "met"


def test_goes_of_one_figure_are_joined_run_after_run() -> None:
    first = row(leptond=(1.0,), floor=(2.0,), peers={"tsp": (3.0,), "slow": (9.0,)}, against="tsp", note="a")
    note = "a; b; slow was left out; other was left out"
    second = row(leptond=(4.0, 5.0), floor=(2.0, 2.0), peers={"tsp": (6.0, 6.0)}, against="tsp", note=note)
    (one,) = merged([first, second])
    assert one.leptond == (1.0, 4.0, 5.0)
    assert one.peers == {"tsp": (3.0, 6.0, 6.0), "slow": (9.0,)}
    assert len(one.judged()) == 3
    assert one.note == "a; b; other was left out"


def test_a_go_without_what_the_figure_is_held_against_leaves_it_unjudged() -> None:
    first = row(leptond=(1.0,), peers={"tsp": (3.0,)}, against="tsp", bar=1.0)
    second = row(leptond=(4.0,), against="tsp", bar=1.0)
    (one,) = merged([first, second])
    assert (one.leptond, one.verdict()) == ((1.0, 4.0), "skipped")
    skipped = row(leptond=(), note="not installed")
    assert merged([skipped, first]) == [first]
    busy = row(leptond=(1.0,), load="busy")
    assert merged([first, busy]) == [first, busy]
