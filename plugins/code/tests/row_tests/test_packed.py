"""LiveCodeBench's private tests: only plain data comes out of base64, zlib and pickle."""

import base64
import json
import os
import pickle
import zlib

import pytest
from rewardkit_code.row_tests import packed
from rewardkit_code.row_tests.formats import Context, read_tests
from rewardkit_code.row_tests.types import UnusableTests

TESTS = [{"input": "[1, 2]\n3", "output": "9", "testtype": "functional"}]


def pack(value, protocol=4):
    """Pack tests as the data set's authors did."""
    return base64.b64encode(zlib.compress(pickle.dumps(value, protocol))).decode()


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_json_is_read(protocol):
    """JSON text comes out as it was put in, whatever the pickle protocol."""
    assert packed.unpack(pack(json.dumps(TESTS), protocol)) == json.dumps(TESTS)


@pytest.mark.parametrize("value", [TESTS, {"a": [1, 2.5, None, True, "x", b"y", (1, 2)]}, 2**100, [[]] * 3])
def test_plain_data_is_read(value):
    """Lists, dicts, numbers, texts and bytes come out unchanged."""
    assert packed.unpack(pack(value)) == value


class _Calls:
    def __reduce__(self):
        return (os.getcwd, ())


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps(_Calls()),
        pickle.dumps(os.getcwd),
        pickle.dumps({1, 2}, 2),
        b"\x80\x02cos\nsystem\nq\x00X\x04\x00\x00\x00echoq\x01\x85q\x02Rq\x03.",
        b"\x80\x02(S'echo'\nios\nsystem\n.",
        b"\x80\x02\x82\x01.",
        b"\x80\x02Ppersistent\n.",
        b"\x80\x02]r\xff\xff\xff\xff.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fx.",
        b"\x80\x02.",
        b"\x80\x02]",
        b"\x80\x02h\x05.",
    ],
)
def test_a_pickle_that_does_more_is_refused(data):
    """A hostile pickle imports, calls and allocates nothing, and makes the row's tests unusable."""
    text = base64.b64encode(zlib.compress(data)).decode()
    with pytest.raises(UnusableTests):
        packed.unpack(text)


def test_a_bomb_is_refused(monkeypatch):
    """Data that decompresses to more than the limit is not decompressed further."""
    monkeypatch.setattr(packed, "MAX_BYTES", 1000)
    with pytest.raises(UnusableTests, match="larger than"):
        packed.unpack(pack("x" * 100_000))


@pytest.mark.parametrize("cut", [20, 40, -4])
def test_a_damaged_text_is_refused(cut):
    """A text that was cut off is unusable, not a test of another kind."""
    with pytest.raises(UnusableTests, match="packed tests"):
        read_tests(pack(json.dumps(TESTS))[:cut], Context())


def test_packed_tests_are_tests():
    """Packed tests are read like the same tests in JSON."""
    given = Context(entry_point="total")
    assert read_tests(pack(json.dumps(TESTS)), given) == read_tests(json.dumps(TESTS), given)
