"""Placement: which GPUs a start gets. Pure and deterministic.

A gang is as fast as its slowest link, so the best connected set comes first; among equals, the set whose loss
hurts the rest least, so that whole NVLink sets and whole NUMA nodes stay free."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from itertools import combinations, pairwise
from math import comb

import msgspec

from leptond.core.jobs.model import DEFAULT_QUEUE, Gpu
from leptond.core.scheduling.gpu_links import PCI, SAME_BOARD, link_quality

EXACT_SETS = 300
"""Up to this many sets of GPUs are all compared; beyond, one set is grown from each GPU and those are
compared."""

_TOKEN = re.compile(r"[a-z0-9]+")


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """The demands of a job on its GPUs.

    `memory_bytes`: what it uses of each: with `exclusive` a GPU of at least that size for itself, without it
    a share, so that other jobs may be packed beside it; None: a whole GPU. `exclusive` also keeps other jobs
    off the further slices of a GPU in MIG mode. `avoid`: UUIDs of GPUs that an earlier attempt failed on.
    `queue`: its queue, which may `borrow` idle GPUs that other queues own."""

    gpus: int
    gpu_type: str | None = None
    memory_bytes: int | None = None
    exclusive: bool = False
    avoid: Sequence[str] = ()
    queue: str = DEFAULT_QUEUE
    borrow: bool = False
    preemptible: bool = False

    @property
    def share_bytes(self) -> int | None:
        """Memory that it takes of a GPU which others may share; None if it has GPUs to itself."""
        return None if self.exclusive else self.memory_bytes


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """A job's hold on one GPU: `share_bytes` of its memory; None: all of it."""

    job: int
    uuid: str
    share_bytes: int | None = None
    exclusive: bool = False


class Occupancy:
    """Holders of each GPU and what is left of it; planned starts are counted in."""

    def __init__(self, gpus: Sequence[Gpu], holdings: Iterable[Holding] = ()) -> None:
        self.gpus = gpus
        self.holdings: list[Holding] = []
        self._by_uuid = {gpu.uuid: gpu for gpu in gpus}
        self._shares: dict[str, dict[int, int]] = {}
        self._whole: dict[str, int] = {}
        self._boards: dict[str, dict[int, bool]] = {}
        for holding in holdings:
            self.hold(holding)

    def hold(self, holding: Holding) -> None:
        """Count what a job holds."""
        self.holdings.append(holding)
        if holding.share_bytes is None:
            self._whole[holding.uuid] = holding.job
        else:
            self._shares.setdefault(holding.uuid, {})[holding.job] = holding.share_bytes
        gpu = self._by_uuid.get(holding.uuid)
        if gpu is not None and gpu.board is not None:
            self._boards.setdefault(gpu.board, {})[holding.job] = holding.exclusive

    def take(self, job: int, need: Need, uuids: Iterable[str]) -> None:
        """Count a planned start."""
        for uuid in uuids:
            self.hold(Holding(job=job, uuid=uuid, share_bytes=need.share_bytes, exclusive=need.exclusive))

    def without(self, jobs: Collection[int]) -> Occupancy:
        """Return the occupancy without these jobs."""
        left = [holding for holding in self.holdings if holding.job not in jobs]
        return Occupancy(self.gpus, left)

    def holders(self, uuid: str) -> list[int]:
        """Return the ids of jobs that hold the GPU or a share of it."""
        if uuid in self._whole:
            return [self._whole[uuid]]
        return sorted(self._shares.get(uuid, ()))

    def free_bytes(self, gpu: Gpu) -> int:
        """Return the memory that no job holds."""
        if gpu.uuid in self._whole:
            return 0
        return gpu.memory_bytes - sum(self._shares.get(gpu.uuid, {}).values())

    def is_free(self, gpu: Gpu) -> bool:
        """Return True if no job holds any of it."""
        return gpu.uuid not in self._whole and not self._shares.get(gpu.uuid)

    def fits(self, need: Need, gpu: Gpu) -> bool:
        """Return True if `gpu` has the share, or is wholly free, as `need` asks."""
        if gpu.board is not None:
            others = self._boards.get(gpu.board, {})
            if any(others.values()) or (need.exclusive and others):
                return False
        if need.share_bytes is None:
            return self.is_free(gpu)
        return self.free_bytes(gpu) >= need.share_bytes


def suits(need: Need, gpu: Gpu) -> bool:
    """Return True if `gpu` is of the type and size that the job needs, whatever holds it now."""
    if need.memory_bytes is not None and gpu.memory_bytes < need.memory_bytes:
        return False
    return need.gpu_type is None or type_matches(need.gpu_type, gpu.name)


@lru_cache(maxsize=4096)
def type_matches(wanted: str, name: str) -> bool:
    """Return True if a GPU's NVML name has every word of the wanted type. Commas separate alternatives.

    >>> type_matches("a100-80gb", "NVIDIA A100-SXM4-80GB"), type_matches("l40", "NVIDIA L40S")
    (True, False)
    >>> type_matches("rtx4090,h100", "NVIDIA GeForce RTX 4090"), type_matches("", "NVIDIA H100 PCIe")
    (True, False)
    """
    words = _TOKEN.findall(name.lower())
    known = {*words, *(first + second for first, second in pairwise(words))}
    alternatives = [_TOKEN.findall(part) for part in wanted.lower().split(",")]
    return any(part and known.issuperset(part) for part in alternatives)


def queue_may_use(need: Need, gpu: Gpu) -> bool:
    """Return True if the job's queue may have `gpu` at all: it has no owner, is its own, or is lent to it."""
    if gpu.owner is None or gpu.owner == need.queue:
        return True
    return need.borrow and (gpu.lend == "all" or (gpu.lend == "preemptible" and need.preemptible))


def eligible(need: Need, gpus: Iterable[Gpu]) -> list[Gpu]:
    """Return the GPUs in service that the job could have if all were free."""
    return _uniform(
        need, [gpu for gpu in gpus if gpu.schedulable and suits(need, gpu) and queue_may_use(need, gpu)]
    )


def candidates(need: Need, occupancy: Occupancy, among: Iterable[Gpu] | None = None) -> list[Gpu]:
    """Return the GPUs (of `among`) that the job could have now; it fits if they are as many as it needs."""
    return _uniform(
        need,
        [
            gpu
            for gpu in (occupancy.gpus if among is None else among)
            if gpu.schedulable and occupancy.fits(need, gpu) and suits(need, gpu) and queue_may_use(need, gpu)
        ],
    )


def _uniform(need: Need, gpus: list[Gpu]) -> list[Gpu]:
    """Restrict a gang to whole GPUs or to slices: a process sees at most one slice."""
    if need.gpus < 2 or not any(gpu.mig for gpu in gpus):
        return gpus
    whole = [gpu for gpu in gpus if not gpu.mig]
    return whole if len(whole) >= need.gpus else max(whole, [gpu for gpu in gpus if gpu.mig], key=len)


def choose(need: Need, occupancy: Occupancy, among: Iterable[Gpu] | None = None) -> list[str] | None:
    """Choose the GPUs (of `among`) of a start, ordered by index; None if too few are free.

    Criteria, in this order: none that the job failed on; all of one type; none borrowed; for a share, the
    least memory left beside it; the best slowest link; the best sum of links; GPUs of its own queue; the best
    links left among the others; the lowest indices."""
    free = candidates(need, occupancy, among)
    if len(free) < need.gpus:
        return None
    chosen = _SetSearch(need, occupancy, _narrowed(need, free)).best()
    return [gpu.uuid for gpu in sorted(chosen, key=lambda gpu: gpu.index)]


def _narrowed(need: Need, free: list[Gpu]) -> list[Gpu]:
    """Drop GPUs that the first criteria of :func:`choose` rule out."""
    fresh = [gpu for gpu in free if gpu.uuid not in need.avoid]
    if len(fresh) < need.gpus:
        return free
    of_type: dict[str, list[Gpu]] = {}
    for gpu in fresh:
        of_type.setdefault(gpu.name, []).append(gpu)
    enough = [gpu for some in of_type.values() if len(some) >= need.gpus for gpu in some]
    return enough or fresh


Score = tuple[int, int, int, int, int, int, int, int, tuple[int, ...]]


class _SetSearch:
    """Search for the best set among the GPUs `free`."""

    def __init__(self, need: Need, occupancy: Occupancy, free: Sequence[Gpu]) -> None:
        self._free = free = sorted(free, key=lambda gpu: (gpu.index, gpu.uuid))
        self._count = need.gpus
        self._avoid = [int(gpu.uuid in need.avoid) for gpu in free]
        self._borrowed = [int(gpu.owner is not None and gpu.owner != need.queue) for gpu in free]
        self._common = [int(gpu.owner is None) for gpu in free]
        memory = need.memory_bytes
        self._memory_left = [0 if memory is None else occupancy.free_bytes(gpu) - memory for gpu in free]
        self._link = [[connection_quality(one, other) for other in free] for one in free]
        self._links = [sum(row) - row[i] for i, row in enumerate(self._link)]

    def best(self) -> list[Gpu]:
        """Return the set with the lowest score."""
        total = len(self._free)
        if self._alike():
            return self._free[: self._count]
        if comb(total, self._count) <= EXACT_SETS:
            sets: Iterable[tuple[int, ...]] = combinations(range(total), self._count)
        else:
            sets = {self._grown(seed) for seed in range(total)}
        return [self._free[i] for i in min(sets, key=self._score)]

    def _alike(self) -> bool:
        """Return True if no GPU and no link differs from another, so that only the order of indices
        counts."""
        facts = (
            self._avoid,
            self._borrowed,
            self._common,
            self._memory_left,
            [gpu.name for gpu in self._free],
        )
        links = {link for i, row in enumerate(self._link) for j, link in enumerate(row) if i != j}
        return len(links) <= 1 and all(len(set(one)) <= 1 for one in facts)

    def _score(self, some: tuple[int, ...]) -> Score:
        pairs = [self._link[one][other] for one, other in combinations(some, 2)]
        inside = sum(pairs)
        return (
            sum(self._avoid[i] for i in some),
            len({self._free[i].name for i in some}),
            sum(self._borrowed[i] for i in some),
            sum(self._memory_left[i] for i in some),
            -min(pairs, default=0),
            -inside,
            sum(self._common[i] for i in some),
            sum(self._links[i] for i in some) - 2 * inside,  # the links that are cut
            tuple(sorted(some)),
        )

    def _grown(self, seed: int) -> tuple[int, ...]:
        """Grow a set from `seed`, adding the GPU that fits best one at a time."""
        some = [seed]
        slowest = list(self._link[seed])
        added = list(self._link[seed])
        while len(some) < self._count:
            best = min(
                (i for i in range(len(self._free)) if i not in some),
                key=lambda i: (
                    self._avoid[i],
                    self._free[i].name != self._free[seed].name,
                    self._borrowed[i],
                    self._memory_left[i],
                    -slowest[i],
                    -added[i],
                    self._common[i],
                    self._links[i],
                    i,
                ),
            )
            some.append(best)
            slowest = [min(old, new) for old, new in zip(slowest, self._link[best], strict=True)]
            added = [old + new for old, new in zip(added, self._link[best], strict=True)]
        return tuple(sorted(some))


def connection_quality(one: Gpu, other: Gpu) -> int:
    """Return a number to compare the connections of two GPUs by, higher is better; 0 if nothing is known."""
    if one.uuid == other.uuid:
        return 0
    token = one.links.get(other.uuid) or other.links.get(one.uuid)
    if token is not None:
        return link_quality(token)
    if one.board is not None and one.board == other.board:
        return SAME_BOARD
    if one.numa_node is None or other.numa_node is None:
        return 0
    return PCI["NODE"] if one.numa_node == other.numa_node else PCI["SYS"]


def gpu_equivalents(need: Need, gpus: Iterable[Gpu]) -> float:
    """Return how many GPUs a waiting job counts for.

    A share counts as its part of the smallest of `gpus` that suits."""
    if need.share_bytes is None:
        return float(need.gpus)
    smallest = min((gpu.memory_bytes for gpu in gpus if suits(need, gpu)), default=need.share_bytes)
    return need.gpus * need.share_bytes / max(1, smallest)
