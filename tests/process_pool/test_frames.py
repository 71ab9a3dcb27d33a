"""The messages between a pool and its workers."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardkit.process_pool.frames import FrameReader, GarbledError, frame

MESSAGES = st.lists(st.tuples(st.integers(0, 2**64 - 1), st.binary(max_size=200)), max_size=8)


@given(MESSAGES, st.lists(st.integers(0, 2000), max_size=20))
def test_any_pieces_make_the_same_messages(messages: list[tuple[int, bytes]], cuts: list[int]) -> None:
    """Wherever the stream is cut, the reader yields every message once, in order, and ends without a rest."""
    stream = b"".join(b"".join(frame(*message)) for message in messages)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    reader = FrameReader()
    read = []
    for start, end in pairwise(places):
        read += reader.feed(stream[start:end])
    assert read == messages
    assert not reader.is_partial


@given(st.integers(0, 2**64 - 1), st.binary(max_size=50), st.data())
def test_a_message_without_its_end_is_partial(number: int, payload: bytes, data: st.DataObject) -> None:
    """A beginning yields nothing and is reported as partial until the end arrives."""
    message = b"".join(frame(number, payload))
    cut = data.draw(st.integers(1, len(message) - 1))
    reader = FrameReader()
    assert list(reader.feed(message[:cut])) == []
    assert reader.is_partial
    assert list(reader.feed(message[cut:])) == [(number, payload)]


@given(st.binary(min_size=20, max_size=60).filter(lambda data: not data.startswith(b"rkpp")))
def test_other_bytes_are_garbled(data: bytes) -> None:
    """Bytes that begin like no message are refused, not skipped."""
    with pytest.raises(GarbledError):
        list(FrameReader().feed(data))


def test_messages_before_garbage_are_yielded() -> None:
    """What arrived whole is handed over before the garbage after it is found."""
    messages = FrameReader().feed(b"".join(frame(7, b"good")) + b"x" * 20)
    assert next(messages) == (7, b"good")
    with pytest.raises(GarbledError):
        next(messages)
