"""What a shim is told."""

import pytest

from leptond.core.jobs.model import LeasedGpu
from leptond.engines.launch import cpu_list, visible_devices


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0", {0}), ("0-3,8,10-11", {0, 1, 2, 3, 8, 10, 11}), ("", set()), ("0-", set()), ("a-b", set())],
)
def test_lists_of_cpus_read_as_the_kernel_writes_them(text, numbers):
    assert cpu_list(text) == numbers


@pytest.mark.parametrize(
    ("uuids", "by_index", "value"),
    [
        (("GPU-a", "GPU-b"), False, "GPU-a,GPU-b"),
        (("GPU-a", "GPU-b"), True, "4,5"),
        (("MIG-a",), True, "MIG-a"),
        ((), True, ""),
    ],
)
def test_a_program_sees_its_gpus_by_uuid_or_by_number(uuids, by_index, value):
    gpus = [LeasedGpu(uuid=uuid, index=4 + position) for position, uuid in enumerate(uuids)]
    assert visible_devices(gpus, by_index=by_index) == value
