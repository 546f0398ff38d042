"""The words of the gate."""

import json

import pytest

from leptond.engines import protocol


@pytest.mark.parametrize(
    "word",
    [
        protocol.READY,
        protocol.CANNOT,
        protocol.GO,
        protocol.STARTED,
        protocol.FAILED,
        protocol.ENDED,
        protocol.BOOKED,
        protocol.RESTING,
        protocol.LAUNCH,
        protocol.SUCCEED,
        protocol.BEFORE,
        protocol.HAND_ON,
        protocol.TOOK,
        protocol.WITHDRAW,
        protocol.WITHDRAWN,
    ],
)
@pytest.mark.parametrize("text", ["", "7", "28 no space left", json.dumps({"name": "ä b"}), "warm "])
def test_what_is_sent_is_what_is_received(word, text):
    line = protocol.message(word, text)
    assert line.count(b"\n") == 1
    assert protocol.split(line) == (word, text)


@pytest.mark.parametrize("line", [b"", b"GO", b"GO {}", b"READY 4"])
def test_a_line_without_its_end_says_nothing(line):
    assert protocol.split(line) == ("", "")


def test_bytes_that_are_no_text_do_no_harm():
    assert protocol.split(b"FAILED \xff\n") == ("FAILED", "\N{REPLACEMENT CHARACTER}")
