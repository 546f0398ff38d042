"""Which checkpoints of frameworks are whole, and which one is resumed from."""

import json
import struct
import zipfile

import pytest

from leptond.integrations import whole


def safetensors(path, count=100):
    header = json.dumps(
        {
            "__metadata__": {"format": "pt"},
            "a": {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]},
            "b": {"dtype": "F32", "shape": [2], "data_offsets": [4 * count, 4 * count + 8]},
        }
    ).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4 * count + 8))


def archive(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", b"x" * 1000)


def checkpoint(directory, step):
    one = directory / f"checkpoint-{step}"
    one.mkdir(parents=True)
    safetensors(one / "model.safetensors")
    archive(one / "optimizer.pt")
    (one / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return one


def cut(path, parts=2):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // parts])


def test_a_whole_one_has_no_flaw(tmp_path):
    one = checkpoint(tmp_path, 5)
    assert whole.flaw(one) is None
    whole.note_sizes(one)
    assert whole.flaw(one) is None


@pytest.mark.parametrize("parts", [2, 20, 1_000_000])
@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt"])
def test_a_file_that_is_cut_off_is_seen(tmp_path, name, parts):
    one = checkpoint(tmp_path, 5)
    cut(one / name, parts)
    assert name in whole.flaw(one)


def test_what_was_noted_at_the_save_finds_what_no_format_tells(tmp_path):
    one = checkpoint(tmp_path, 5)
    (one / "rng_state.pth").write_bytes(b"of no format that can be checked")
    whole.note_sizes(one)
    cut(one / "rng_state.pth")
    assert whole.flaw(one) == "rng_state.pth has 16 bytes, and had 32 when it was saved"
    (one / "rng_state.pth").unlink()
    assert whole.flaw(one) == "rng_state.pth is missing"


def test_all_shards_of_an_index_must_be_there(tmp_path):
    one = checkpoint(tmp_path, 5)
    names = ["model-1.safetensors", "model-2.safetensors"]
    index = {"weight_map": dict(zip("ab", names, strict=True))}
    (one / "model.safetensors.index.json").write_text(json.dumps(index))
    safetensors(one / names[0])
    assert whole.flaw(one) == "model-2.safetensors is missing, which model.safetensors.index.json names"
    safetensors(one / names[1])
    assert whole.flaw(one) is None


@pytest.mark.parametrize(
    "junk", [b"", b"1234567", b"\xff" * 64, struct.pack("<Q", 2) + b"[]", struct.pack("<Q", 1) + b"{"]
)
def test_junk_is_a_flaw_and_no_error(tmp_path, junk):
    (tmp_path / "model.safetensors").write_bytes(junk)
    assert "model.safetensors" in whole.flaw(tmp_path / "model.safetensors")


def test_the_newest_whole_one_is_resumed_from_and_a_line_says_why(tmp_path, capsys):
    ones = [checkpoint(tmp_path, step) for step in (30, 20, 10)]
    cut(ones[0] / "model.safetensors")
    assert whole.newest(ones, attempt=None) == ones[1]
    said = capsys.readouterr().err
    assert said.startswith("leptond: checkpoint-30 is passed over: model.safetensors has ")
    assert said.count("\n") == 1
    assert whole.newest([ones[0]], attempt=None) is None


def test_after_a_load_that_failed_the_next_older_one_is_taken(tmp_path, capsys):
    ones = [checkpoint(tmp_path, step) for step in (20, 10)]
    assert whole.newest(ones, attempt=1) == ones[0]
    assert whole.newest(ones, attempt=1) == ones[0], "another rank, or a restart of the same attempt"
    assert whole.newest(ones, attempt=2) == ones[1]
    assert "checkpoint-20 is passed over: attempt 1 did not get through its load" in capsys.readouterr().err
    assert whole.newest(ones, attempt=3) == ones[0], "all have been tried: the newest again"


def test_a_load_that_went_well_leaves_nothing_behind(tmp_path):
    one = checkpoint(tmp_path, 10)
    names = sorted(path.name for path in one.iterdir())
    for attempt in (1, 2):
        assert whole.newest([one], attempt=attempt) == one
        whole.loaded(one)
    assert sorted(path.name for path in one.iterdir()) == names
    file = tmp_path / "leptond.ckpt"
    archive(file)
    assert whole.newest([file], attempt=1) == file
    whole.loaded(file)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "leptond.ckpt"]


def test_other_ranks_note_nothing(tmp_path, monkeypatch):
    one = checkpoint(tmp_path, 10)
    monkeypatch.setenv("RANK", "1")
    assert whole.newest([one], attempt=1) == one
    assert not (one / whole.LOADING).exists()
