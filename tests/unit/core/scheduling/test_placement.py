"""The choice of GPUs: examples on known machines, and properties over random ones."""

from itertools import combinations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from leptond.core.jobs.model import Gpu
from leptond.core.scheduling.placement import (
    Holding,
    Need,
    Occupancy,
    candidates,
    choose,
    connection_quality,
    eligible,
    gpu_equivalents,
    type_matches,
)
from leptond.core.scheduling.topology import places

GIB = 1024**3


def machine(kind="none", count=8, name="NVIDIA H100 80GB HBM3", memory=80 * GIB, **more):
    return [
        Gpu(
            uuid=f"GPU-{i}",
            index=i,
            name=name,
            memory_bytes=memory,
            numa_node=place.numa_node,
            links={f"GPU-{other}": link for other, link in place.links.items()},
            **more,
        )
        for i, place in enumerate(places(kind, count, range(16)))
    ]


def changed(gpus, index, **facts):
    return [
        Gpu(**{**{f: getattr(gpu, f) for f in gpu.__struct_fields__}, **facts}) if gpu.index == index else gpu
        for gpu in gpus
    ]


def chosen(devices, taken=(), holdings=(), **need):
    room = Occupancy(devices, [*(Holding(job=1, uuid=f"GPU-{i}") for i in taken), *holdings])
    found = choose(Need(**{"gpus": 1, **need}), room)
    return None if found is None else [int(uuid.removeprefix("GPU-")) for uuid in found]


def share(job, index, gib):
    return Holding(job=job, uuid=f"GPU-{index}", share_bytes=gib * GIB)


@pytest.mark.parametrize(
    ("kind", "taken", "gpus", "right"),
    [
        ("none", {0}, 2, [1, 2]),  # nothing known: the lowest indices
        ("pairs", {0}, 2, [2, 3]),  # an NVLink pair, not 1 and 2
        ("pairs", {0}, 1, [1]),  # the pair that is broken already
        ("pairs", {0, 4, 5}, 1, [1]),
        ("pairs", {0, 4, 5}, 3, [1, 2, 3]),  # inside one memory node
        ("pairs", {0, 3}, 4, [4, 5, 6, 7]),  # a whole node rather than what is left of two
        ("pairs", {0, 2}, 2, [4, 5]),
        ("pairs", {0, 2, 4, 6}, 2, [1, 3]),  # no pair left: the same node at least
        ("pcie", {0}, 2, [2, 3]),
        ("pcie", {4, 5, 6}, 1, [7]),
        ("nvswitch", {0, 3}, 2, [1, 2]),
        ("cube-mesh", {1}, 2, [2, 3]),  # two lanes, not one, and the rest loses less than by 0 and 3
        ("cube-mesh", {0, 1}, 4, [4, 5, 6, 7]),
    ],
)
def test_the_best_connected_set_that_hurts_the_rest_least(kind, taken, gpus, right):
    assert chosen(machine(kind), taken, gpus=gpus) == right


def test_single_gpus_leave_pairs_for_those_that_want_them():
    gpus, taken = machine("pairs"), []
    for _ in range(4):
        taken += chosen(gpus, taken)
    assert chosen(gpus, taken, gpus=2) in ([4, 5], [6, 7])
    assert chosen(gpus, taken, gpus=4) == [4, 5, 6, 7]


def test_another_gpu_after_one_failed_unless_there_is_no_other():
    assert chosen(machine("pairs"), gpus=2, avoid=["GPU-0"]) == [2, 3]
    assert chosen(machine(count=2), gpus=2, avoid=["GPU-0"]) == [0, 1]


def test_a_type_is_the_words_of_the_name():
    gpus = changed(machine(count=4), 2, name="NVIDIA A100-SXM4-80GB")
    assert chosen(gpus, gpu_type="a100") == [2]
    assert chosen(gpus, gpu_type="A100-80gb,h200") == [2]
    assert chosen(gpus, gpu_type="h100", gpus=3) == [0, 1, 3]
    assert chosen(gpus, gpu_type="h100", gpus=4) is None
    assert not type_matches("h10", "NVIDIA H100 PCIe")
    assert type_matches("1g.10gb", "NVIDIA H100 80GB HBM3 MIG 1g.10gb")


def test_a_gang_is_of_one_type_where_it_can_be():
    gpus = changed(changed(machine(count=4), 0, name="other"), 2, name="other")
    assert chosen(gpus, gpus=2) == [0, 2]
    assert chosen(gpus, {1}, gpus=3) == [0, 2, 3]


def test_shares_are_packed_and_whole_jobs_keep_away():
    gpus = machine(count=3)
    held = [share(1, 1, 50), share(2, 2, 30)]
    assert chosen(gpus, holdings=held, memory_bytes=20 * GIB) == [1]
    assert chosen(gpus, holdings=held, memory_bytes=40 * GIB) == [2]
    assert chosen(gpus, holdings=held, memory_bytes=60 * GIB) == [0]
    assert chosen(gpus, holdings=held) == [0]
    assert chosen(gpus, {0}, holdings=held) is None
    assert chosen(gpus, {0}, holdings=held, memory_bytes=51 * GIB) is None
    assert chosen(gpus, {0, 1, 2}, memory_bytes=1) is None


def test_an_exclusive_job_gets_a_gpu_of_at_least_its_memory_alone():
    gpus = changed(machine(count=3), 0, memory_bytes=24 * GIB)
    assert chosen(gpus, memory_bytes=20 * GIB, exclusive=True) == [0]
    assert chosen(gpus, memory_bytes=40 * GIB, exclusive=True) == [1]
    assert chosen(gpus, holdings=[share(1, 1, 1)], memory_bytes=40 * GIB, exclusive=True) == [2]
    assert chosen(gpus, memory_bytes=81 * GIB, exclusive=True) is None


def sliced():
    """GPU 0 as three slices, GPU 1 as two, GPU 2 whole."""
    boards = ["A", "A", "A", "B", "B", None]
    return [
        Gpu(uuid=f"GPU-{i}", index=i, name="x", memory_bytes=10 * GIB, mig=board is not None, board=board)
        for i, board in enumerate(boards)
    ]


def test_slices_are_devices_and_one_board_is_filled_before_the_next():
    assert chosen(sliced(), {3}) == [4]
    assert chosen(sliced(), {0}, gpu_type="x") != [3]
    assert chosen(sliced(), gpus=3) == [0, 1, 2], "slices alone: there is one whole GPU"
    assert chosen(sliced(), {0, 3}, gpus=4) is None, "three slices and a GPU are no gang"


def test_an_exclusive_job_keeps_others_off_the_slices_beside_it():
    alone = Holding(job=9, uuid="GPU-0", exclusive=True)
    assert chosen(sliced(), holdings=[alone], gpus=2) == [3, 4]
    assert chosen(sliced(), {0, 3}, exclusive=True) == [5]


def test_a_queue_has_its_own_gpus_first_and_borrows_last():
    gpus = changed(changed(machine(count=4), 0, owner="them"), 2, owner="mine")
    assert chosen(gpus, queue="mine") == [2]
    assert chosen(gpus, queue="mine", gpus=3) == [1, 2, 3]
    assert chosen(gpus, queue="mine", gpus=4) is None
    assert chosen(gpus, queue="mine", gpus=4, borrow=True) == [0, 1, 2, 3]
    picky = changed(gpus, 0, lend="preemptible", owner="them")
    assert chosen(picky, queue="mine", gpus=4, borrow=True) is None
    assert chosen(picky, queue="mine", gpus=4, borrow=True, preemptible=True) == [0, 1, 2, 3]
    assert chosen(changed(gpus, 0, lend="none"), queue="x", gpus=4, borrow=True, preemptible=True) is None


def test_a_share_counts_as_its_part():
    gpus = machine(count=2)
    assert gpu_equivalents(Need(gpus=2), gpus) == 2.0
    assert gpu_equivalents(Need(gpus=2, memory_bytes=20 * GIB), gpus) == 0.5
    assert gpu_equivalents(Need(gpus=2, memory_bytes=20 * GIB, exclusive=True), gpus) == 2.0


# -- properties ------------------------------------------------------------------------------------------

KINDS = ("none", "pcie", "pairs", "cube-mesh", "nvswitch")
worlds = st.tuples(
    st.sampled_from(KINDS),
    st.integers(1, 16),
    st.lists(st.tuples(st.integers(0, 15), st.integers(1, 90)), max_size=16),
    st.dictionaries(st.integers(0, 15), st.sampled_from(["a", "b"])),
)
needs = st.builds(
    Need,
    gpus=st.integers(1, 9),
    memory_bytes=st.none() | st.integers(1, 90).map(lambda gib: gib * GIB),
    exclusive=st.booleans(),
    avoid=st.lists(st.integers(0, 15).map(lambda i: f"GPU-{i}"), max_size=3),
    queue=st.sampled_from(["a", "b", "default"]),
    borrow=st.booleans(),
)


def build(world):
    """The room of a world: what is asked for is held where it fits, the rest is left out."""
    kind, count, wants, owners = world
    gpus = machine(kind, count)
    for index, owner in owners.items():
        gpus = changed(gpus, index, owner=owner)
    room = Occupancy(gpus)
    for job, (index, gib) in enumerate(wants):
        need = Need(gpus=1, memory_bytes=None if gib > 80 else gib * GIB)
        if index < count and room.fits(need, gpus[index]):
            room.take(job, need, [gpus[index].uuid])
    return room


@settings(max_examples=60, deadline=None, derandomize=True)
@given(worlds, needs)
def test_what_is_chosen_is_free_allowed_and_enough(world, need):
    room = build(world)
    found = choose(need, room)
    possible = {gpu.uuid: gpu for gpu in candidates(need, room)}
    assert (found is None) == (len(possible) < need.gpus)
    if found is None:
        return
    assert len(found) == len(set(found)) == need.gpus
    assert set(found) <= set(possible)
    for uuid in found:
        gpu = possible[uuid]
        assert gpu.owner in (None, need.queue) or need.borrow
        if need.share_bytes is None:
            assert room.is_free(gpu)
        else:
            assert room.free_bytes(gpu) >= need.share_bytes


@settings(max_examples=60, deadline=None, derandomize=True)
@given(worlds, st.lists(needs, max_size=12))
def test_no_gpu_is_promised_beyond_its_memory_nor_to_two_whole_jobs(world, wanted):
    room = build(world)
    held = {gpu.uuid: 80 * GIB - room.free_bytes(gpu) for gpu in room.gpus}
    for job, need in enumerate(wanted, 100):
        for uuid in choose(need, room) or ():
            held[uuid] += 80 * GIB if need.share_bytes is None else need.share_bytes
            assert held[uuid] <= 80 * GIB
            room.take(job, need, [uuid])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(worlds, needs, st.randoms())
def test_the_order_of_the_gpus_does_not_matter(world, need, random):
    room = build(world)
    shuffled = list(room.gpus)
    random.shuffle(shuffled)
    again = build(world)
    again.gpus = shuffled
    assert choose(need, again) == choose(need, room)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.sampled_from(KINDS), st.integers(2, 16), st.sets(st.integers(0, 15)))
def test_a_pair_is_the_best_linked_of_all_free_pairs(kind, count, taken):
    gpus = machine(kind, count)
    free = [gpu for gpu in gpus if gpu.index not in taken]
    assume(len(free) >= 2)
    pair = [gpus[i] for i in chosen(gpus, taken, gpus=2)]
    assert connection_quality(*pair) == max(connection_quality(*both) for both in combinations(free, 2))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(worlds, needs)
def test_what_is_free_is_part_of_what_there_is(world, need):
    room = build(world)
    whole = {gpu.uuid for gpu in eligible(need, room.gpus)}
    assert {gpu.uuid for gpu in candidates(need, room)} <= whole


def test_a_machine_of_many_slices_is_decided_by_growing_sets():
    gpus = [
        Gpu(uuid=f"MIG-{i:02}", index=i, name="x", memory_bytes=GIB, mig=True, board=str(i // 7), numa_node=0)
        for i in range(56)
    ]
    room = Occupancy(gpus, [Holding(job=1, uuid=gpus[i].uuid) for i in (0, 1, 8)])
    assert choose(Need(gpus=5), room) == [f"MIG-{i:02}" for i in range(2, 7)]
