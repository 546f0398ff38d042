"""Quality of GPU links."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptond.core.scheduling.gpu_links import NVLINK, PCI, SAME_BOARD, link_quality


def test_names_of_nvidia_smi_from_worst_to_best():
    names = ["SYS", "NODE", "PHB", "PXB", "PIX", "NV1", "NV2", "NV18"]
    found = [link_quality(name) for name in names]
    assert found == sorted(set(found))
    assert max(PCI.values()) < SAME_BOARD < NVLINK < link_quality("NV1")


@given(st.integers(1, 99), st.integers(1, 99))
def test_more_nvlinks_are_better(one, other):
    assert (link_quality(f"NV{one}") < link_quality(f"NV{other}")) == (one < other)


@pytest.mark.parametrize("name", ["", "X", "NV", "NVx", "nv4", "sys", "NV-1"])
def test_an_unknown_name_is_the_worst(name):
    assert link_quality(name) == 0
