"""What a shim is told."""

import pytest
from msgspec.structs import replace

from leptond.core.jobs.model import JobSpec, LeasedGpu
from leptond.engines.launch import command, cpu_list, visible_devices
from leptond.store.queue import jobs
from tests.support.queue import add, db

__all__ = ["db"]


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


@pytest.mark.parametrize(
    ("argv", "name"),
    [("/w/job.sh", "job.sh"), ("job.sh", "job.sh"), ("/w/..", "script"), ("/w/" + "x" * 256, "script")],
)
def test_the_copy_of_a_script_has_its_name_where_a_file_can_have_it(db, argv, name):
    job = replace(jobs.find(db, str(add(db))), spec=JobSpec(argv=[argv, "1"]))
    words = command(job, "/s/jobs/1/1", b"#!/usr/bin/env bash\n")
    assert words == ["/usr/bin/env", "bash", f"/s/jobs/1/1/script/{name}", "1"]
    assert command(job, "/s", None) == [argv, "1"]
    line = replace(job, spec=JobSpec(argv=["echo | cat"], shell=True))
    assert command(line, "/s", None) == ["/bin/sh", "-c", "echo | cat"]
