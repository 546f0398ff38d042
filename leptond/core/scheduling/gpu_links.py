"""Quality of the link between two GPUs, from the names in ``nvidia-smi topo -m``. Standard library only: the
command line imports it."""

from __future__ import annotations

from functools import lru_cache

PCI = {"SYS": 1, "NODE": 2, "PHB": 3, "PXB": 4, "PIX": 5}
SAME_BOARD = 6
"""Two slices of one GPU: using the second leaves other GPUs whole."""
NVLINK = 10


@lru_cache(maxsize=256)
def link_quality(link: str) -> int:
    """Return a number to compare links by, higher is better; 0 for unknown names.

    >>> sorted(["?", "NODE", "NV4", "SYS", "NV2", "PIX"], key=link_quality, reverse=True)
    ['NV4', 'NV2', 'PIX', 'NODE', 'SYS', '?']
    """
    if link.startswith("NV") and link[2:].isdecimal():
        return NVLINK + int(link[2:])
    return PCI.get(link, 0)
