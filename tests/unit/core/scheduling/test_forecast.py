"""The forward run: examples, and that it agrees with the planner about now."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from leptond.core.scheduling.forecast import Simulation, StartEstimates, estimate_starts, forecast_starts
from leptond.core.scheduling.planner import CarriedState, Policy
from tests.unit.core.scheduling.test_planner import HOUR, gpus, inputs, job, planned, runs, started, worlds


def ahead(waiting, running=(), devices=4, out=(), slots=2, now=0.0, carried=None, **policy):
    carried = carried if carried is not None else CarriedState()
    return forecast_starts(
        inputs(waiting, running, gpus(devices, out), slots, now, Policy(**policy), carried)
    )


def test_one_after_another():
    waiting = [job(i, need=4, limit_s=HOUR, since=float(i)) for i in (2, 3)]
    found = ahead(waiting, [runs(1, 0, limit_s=HOUR, started_at=-600.0)])
    assert found[2].start_at == HOUR - 600.0
    assert found[2].gpus == ["GPU-0", "GPU-1", "GPU-2", "GPU-3"]
    assert found[3].start_at == found[2].end_at == 2 * HOUR - 600.0


def test_an_overrun_prediction_is_doubled():
    found = ahead([job(2, need=4)], [runs(1, 0, predicted_s=100.0, started_at=-150.0)])
    assert found[2].start_at == 50.0


def test_what_a_job_reports_counts_before_what_is_expected_of_it():
    hold = [runs(1, 0, 1, 2, 3, limit_s=HOUR, predicted_s=2 * HOUR, reported_left_s=57.0)]
    assert ahead([job(2, need=1)], hold)[2].start_at == 57.0
    late = [runs(1, 0, 1, 2, 3, limit_s=HOUR, started_at=-3500.0, reported_left_s=5000.0)]
    assert ahead([job(2, need=1)], late)[2].start_at == 100.0, "its limit ends it earlier"


def test_behind_a_run_of_unknown_length_nothing_is_foretold():
    hold = [runs(1, 0), runs(4, 1, limit_s=HOUR)]
    found = ahead([job(2, need=1), job(3, need=1), job(5, need=4)], hold, devices=2)
    assert found[2].start_at == HOUR
    assert found[2].end_at is None, "nothing is known of it either"
    assert not {3, 5} & found.keys()


def test_a_job_that_makes_room_comes_back():
    hold = [runs(1, 0, 1, 2, 3, preemptible=True, limit_s=9 * HOUR, started_at=-3 * HOUR)]
    found = ahead([job(2, need=4, limit_s=HOUR), job(3, need=4, limit_s=20 * HOUR)], hold)
    assert found[2].start_at == 0.0
    assert found[3].start_at == HOUR + 6 * HOUR  # what job 1 has left goes first


def test_what_never_fits_is_not_foretold():
    assert 2 not in ahead([job(2, need=4)], out={0})


def test_the_range_holds_the_likely_start():
    waiting = [job(2, need=4, predicted_s=HOUR), job(3, need=4, predicted_s=HOUR)]
    hold = [runs(1, 0, predicted_s=HOUR)]
    eta = estimate_starts(inputs(waiting, hold, gpus(4), 2, 0.0, Policy(), CarriedState()))[3]
    assert (eta.earliest_at, eta.likely.start_at, eta.latest_at) == (HOUR, 2 * HOUR, 4 * HOUR)


@settings(max_examples=50, deadline=None)
@given(worlds)
def test_what_starts_now_is_what_the_planner_starts(world):
    made = planned(**world)
    found = ahead(**world)
    for number in started(made):
        assert found[number].start_at == world["now"]
    assert all(forecast.start_at >= world["now"] for forecast in found.values())


@settings(max_examples=50, deadline=None)
@given(worlds)
def test_gpus_are_not_foretold_to_two_at_a_time(world):
    world = {**world, "running": []}
    world["waiting"] = [one for one in world["waiting"] if not one.preemptible]
    found = ahead(**world).values()
    until = {one.id: math.inf if one.end_at is None else one.end_at for one in found}
    for one in found:
        for other in found:
            if one.id < other.id and one.start_at < until[other.id] and other.start_at < until[one.id]:
                assert not set(one.gpus) & set(other.gpus)


def world_inputs(world):
    devices, out = world.get("devices", 4), world.get("out", ())
    rest = {
        name: value
        for name, value in world.items()
        if name not in ("waiting", "running", "devices", "out", "slots", "now", "carried")
    }
    return inputs(
        world["waiting"],
        world["running"],
        gpus(devices, out),
        world["slots"],
        world["now"],
        Policy(**rest),
        world.get("carried") or CarriedState(),
    )


@settings(max_examples=50, deadline=None)
@given(worlds, st.data(), st.integers(1, 30))
def test_a_forecast_that_goes_on_is_the_same_as_one_that_goes_to_the_end_at_once(world, data, most):
    made = world_inputs(world)
    ids = [one.id for one in made.waiting]
    order = data.draw(st.permutations([*ids, 999]))
    whole = forecast_starts(made, max_passes=most)
    simulation = Simulation(made, max_passes=most)
    for job_id in order:
        simulation.run(until=job_id)
        assert simulation.found.get(job_id) == whole.get(job_id)
    assert simulation.found == whole
    estimates, etas = StartEstimates(made, max_passes=most), estimate_starts(made, max_passes=most)
    assert {job_id: estimates.of(job_id) for job_id in order} == {one: etas.get(one) for one in order}
    assert estimates.all() == etas
    for job_id in ids:
        assert estimate_starts(made, until=job_id, max_passes=most).get(job_id) == etas.get(job_id)
