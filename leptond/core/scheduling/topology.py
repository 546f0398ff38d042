"""Simulated topologies: how the GPUs of machines that are not there are connected. For simulated devices and
tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

Topology = Literal["none", "pcie", "pairs", "cube-mesh", "nvswitch"]
"""`none`: nothing is known. `pcie`: two NUMA nodes with half of the GPUs each, two GPUs a PCIe switch.
`pairs`: the same with an NVLink bridge over each two. `cube-mesh`: eight GPUs as in a DGX-1. `nvswitch`:
every GPU with every other, as in an HGX H100."""

_MESH: Mapping[tuple[int, int], str] = {
    (0, 1): "NV1", (0, 2): "NV1", (0, 3): "NV2", (0, 4): "NV2", (1, 2): "NV2", (1, 3): "NV1",
    (1, 5): "NV2", (2, 3): "NV2", (2, 6): "NV1", (3, 7): "NV1", (4, 5): "NV1", (4, 6): "NV1",
    (4, 7): "NV2", (5, 6): "NV2", (5, 7): "NV1", (6, 7): "NV2",
}  # fmt: skip


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Location of a device: its NUMA node, the CPUs of that node, and its links to other devices by index."""

    numa_node: int | None = None
    cpus: Sequence[int] = ()
    links: Mapping[int, str] = {}


def places(kind: Topology, count: int, cpus: Sequence[int]) -> list[Place]:
    """Return the location of each of `count` devices on a machine with these CPUs."""
    if kind == "none":
        return [Place()] * count
    half = len(cpus) // 2
    nodes = (list(cpus[:half]) or list(cpus), list(cpus[half:]))
    return [
        Place(
            numa_node=_node(one, count),
            cpus=nodes[_node(one, count)],
            links={other: _link(kind, one, other, count) for other in range(count) if other != one},
        )
        for one in range(count)
    ]


def _node(one: int, count: int) -> int:
    return int(count > 2 and 2 * one >= count)


def _link(kind: Topology, one: int, other: int, count: int) -> str:
    if kind == "nvswitch":
        return "NV18"
    if kind == "cube-mesh" and one // 8 == other // 8:
        low, high = sorted((one % 8, other % 8))
        if (low, high) in _MESH:
            return _MESH[low, high]
    elif one // 2 == other // 2:
        return "NV4" if kind == "pairs" else "PIX"
    return "NODE" if _node(one, count) == _node(other, count) else "SYS"
