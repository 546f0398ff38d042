"""Simulated topologies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptond.core.scheduling.topology import places

KINDS = ["none", "pcie", "pairs", "cube-mesh", "nvswitch"]


@given(kind=st.sampled_from(KINDS), count=st.integers(0, 20), cpus=st.integers(1, 64))
def test_every_gpu_has_a_place_and_links_are_the_same_from_both_ends(kind, count, cpus):
    found = places(kind, count, range(cpus))
    assert len(found) == count
    for one, place in enumerate(found):
        assert one not in place.links
        assert all(found[other].links[one] == link for other, link in place.links.items())
        assert set(place.cpus) <= set(range(cpus))
        assert len(place.links) == (0 if kind == "none" else count - 1)


@given(kind=st.sampled_from(KINDS[1:]), count=st.integers(3, 20))
def test_links_between_nodes_are_no_better_than_the_nodes_allow(kind, count):
    found = places(kind, count, range(8))
    assert {place.numa_node for place in found} == {0, 1}
    if kind in ("pcie", "pairs"):
        for one, place in enumerate(found):
            for other, link in place.links.items():
                if one // 2 != other // 2:
                    same = place.numa_node == found[other].numa_node
                    assert link == ("NODE" if same else "SYS")


@pytest.mark.parametrize(
    ("kind", "links"),
    [
        ("pcie", {1: "PIX", 2: "NODE", 3: "NODE", 4: "SYS"}),
        ("pairs", {1: "NV4", 2: "NODE", 3: "NODE", 4: "SYS"}),
        ("cube-mesh", {1: "NV1", 2: "NV1", 3: "NV2", 4: "NV2", 5: "SYS"}),
        ("nvswitch", dict.fromkeys(range(1, 8), "NV18")),
    ],
)
def test_eight_gpus_are_connected_like_this(kind, links):
    first = places(kind, 8, range(8))[0]
    assert {other: first.links[other] for other in links} == links


def test_each_gpu_of_a_cube_mesh_has_six_nvlinks():
    for place in places("cube-mesh", 8, range(8)):
        assert sum(int(link[2:]) for link in place.links.values() if link.startswith("NV")) == 6


def test_nothing_is_known_of_a_machine_without_a_topology():
    assert {(place.numa_node, len(place.links)) for place in places("none", 3, range(4))} == {(None, 0)}
