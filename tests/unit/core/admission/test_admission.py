"""The door: what is let in, completed, and turned away."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptond.base.errors import Invalid, TooManyGpus
from leptond.core.admission.admission import Defaults, admit, default_name
from leptond.core.jobs.arrays import Indices, parse_array
from leptond.core.jobs.model import JobSpec, Signal

PLAIN = Defaults()


def admitted(defaults=PLAIN, **spec):
    return admit(JobSpec(**{"argv": ["true"], **spec}), gpus=4, home="/home/ana", defaults=defaults)


def test_what_is_left_open_is_filled_in():
    spec = admitted().spec
    assert (spec.name, spec.cwd, spec.grace_s, spec.retries) == ("true", "/home/ana", 45.0, 0)


def test_an_output_path_of_dev_null_asks_for_no_copy():
    found = admit(JobSpec(argv=["true"], output="/dev/null"), gpus=0, home="/", defaults=Defaults())
    assert found.spec.output is None


def test_more_gpus_than_there_are():
    with pytest.raises(TooManyGpus, match="asks for 8 GPUs, this machine has 4"):
        admitted(gpus=8)


@pytest.mark.parametrize(
    ("spec", "pointer"),
    [
        ({"argv": ["a\0b"]}, "/argv/0"),
        ({"argv": [""]}, "/argv/0"),
        ({"argv": ["a", "b"], "shell": True}, "/argv"),
        ({"argv": ["x" * 131072] * 2}, "/argv"),
        ({"env": {"A=B": "1"}}, "/env/A=B"),
        ({"env": {"A": "x\0"}}, "/env/A"),
        ({"env": {"A": "x" * 70000}}, "/env"),
        ({"env": {"CUDA_VISIBLE_DEVICES": "0"}}, "/env/CUDA_VISIBLE_DEVICES"),
        ({"env": {"LEPTOND_JOB_ID": "0"}}, "/env/LEPTOND_JOB_ID"),
        ({"warn_signal": Signal(signal="USR1", before_s=10)}, "/warn_signal"),
        ({"warn_signal": Signal(signal="USR1", before_s=60), "time_limit_s": 60.0}, "/warn_signal"),
        ({"array": "9-1"}, "/array"),
        ({"array": "0-99999999"}, "/array"),
    ],
)
def test_refusals_point_at_the_field(spec, pointer):
    with pytest.raises(Invalid) as refusal:
        admitted(**spec)
    assert refusal.value.pointer == pointer


def test_a_warning_that_is_due_before_the_start_is_refused_with_both_times():
    warning = Signal(signal="USR1", before_s=120)
    with pytest.raises(Invalid, match="due 2m before the time limit of 1m"):
        admitted(warn_signal=warning, time_limit_s=60.0)
    with pytest.raises(Invalid, match="due 2m before the time limit of 90s"):
        admitted(warn_signal=warning, defaults=Defaults(max_time_limit_s=90))
    assert admitted(warn_signal=warning, time_limit_s=120.5).spec.warn_signal == warning


def test_the_machines_longest_limit_binds():
    machine = Defaults(time_limit_s=60, max_time_limit_s=100)
    assert admitted(defaults=machine).spec.time_limit_s == 60
    assert admitted(defaults=Defaults(max_time_limit_s=100)).spec.time_limit_s == 100
    with pytest.raises(Invalid):
        admitted(defaults=machine, time_limit_s=101.0)


@pytest.mark.parametrize("name", ["../x", "a/b", "-a", ".hidden", "a b", "a\x1b[31m", "", "x" * 129, "é"])
def test_names_that_could_do_harm_do_not_decode(name):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"argv": ["true"], "name": name}, JobSpec)


@given(st.lists(st.text(min_size=1), min_size=1, max_size=4), st.booleans())
def test_a_default_name_is_always_a_legal_one(argv, shell):
    name = default_name(argv, shell)
    msgspec.convert({"argv": ["true"], "name": name}, JobSpec)


def test_arrays():
    for text, wanted in (("0-9%4", (list(range(10)), 4)), ("7", ([7], None))):
        indices, limit = parse_array(text, max_members=10)
        assert (list(indices), limit) == wanted
    for bad in ("", "a", "1-", "%3", "1%0", "1%x", "-1", "1:2", "0-10:0", "0-10"):
        with pytest.raises(ValueError, match=r"array|range|limit"):
            parse_array(bad, max_members=10)


@given(st.sets(st.integers(0, 500), min_size=1), st.one_of(st.none(), st.integers(1, 50)))
def test_an_array_written_out_reads_back(indices, limit):
    text = ",".join(str(index) for index in indices) + (f"%{limit}" if limit else "")
    found, at_a_time = parse_array(text, max_members=1000)
    assert (list(found), at_a_time) == (sorted(indices), limit)


RANGES = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 40), st.integers(1, 7)), min_size=1, max_size=6
)


@given(RANGES, st.integers(-5, 120))
def test_indices_are_the_sorted_set_of_their_ranges_however_they_interleave(ranges, probe):
    parts = [range(first, first + length + 1, step) for first, length, step in ranges]
    wanted = sorted(set().union(*parts))
    found = Indices(parts)
    assert list(found) == wanted == [found[at] for at in range(len(found))]
    assert found[-1] == wanted[-1]
    assert list(found[1:3]) == wanted[1:3]
    assert found.position(probe) == (wanted.index(probe) if probe in wanted else None)
    assert (probe in found) == (probe in wanted)
    with pytest.raises(IndexError):
        found[len(wanted)]


@pytest.mark.parametrize(
    "spec", [{"name": "abc\n"}, {"after": ["47\n"]}, {"retry_on": ["75\n"]}, {"project": "x\n"}]
)
def test_a_line_end_does_not_slip_in_at_the_end(spec):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"argv": ["true"], **spec}, JobSpec)


@pytest.mark.parametrize(
    ("asked", "default", "most", "found"),
    [
        (None, 0, 0, None),
        (None, 8 << 30, 0, 8 << 30),
        (None, 0, 4 << 30, 4 << 30),
        (None, 8 << 30, 4 << 30, 4 << 30),
        (2 << 30, 8 << 30, 4 << 30, 2 << 30),
    ],
)
def test_a_job_has_the_default_limit_of_memory_within_the_largest(asked, default, most, found):
    defaults = Defaults(mem_bytes=default, max_mem_bytes=most)
    spec = JobSpec(argv=["true"], mem_bytes=asked)
    assert admit(spec, gpus=0, home="/", defaults=defaults).spec.mem_bytes == found


@pytest.mark.parametrize("most", [0, 4 << 30])
def test_more_memory_than_is_allowed_or_there_is_refused(most):
    with pytest.raises(Invalid, match="asks for 16 GiB of memory"):
        admit(
            JobSpec(argv=["true"], mem_bytes=16 << 30),
            gpus=0,
            home="/",
            defaults=Defaults(max_mem_bytes=most),
            machine_bytes=8 << 30,
        )
