"""Answers are kept line by line; a file that was cut off is mended, one that holds something else refused."""

from __future__ import annotations

import math

import pytest

from rewardkit.errors import DataError, OutputError
from rewardkit.train.evaluation.answers import GREEDY, Answer, ModelAnswers, Store, means


def answer(prompt=0, place=GREEDY, *, right=True, tokens=3, is_cut=False, **components):
    """An answer."""
    return Answer(prompt, place, right, 1.0, components, tokens, is_cut, "2", "text\n…")


def test_what_was_added_is_read(tmp_path):
    """Answers are read back in order, from a file that is created with its folder."""
    store = Store(tmp_path / "new/answers.jsonl")
    assert store.read() == []
    store.add([answer(0), answer(0, 0, right=False)])
    store.add([answer(1, a=0.5, b=None)])
    assert store.read() == [answer(0), answer(0, 0, right=False), answer(1, a=0.5, b=None)]


def test_half_a_line_is_cut_off(tmp_path):
    """An incomplete last line of a killed process is removed, and the next answer gets a line of its own."""
    store = Store(tmp_path / "answers.jsonl")
    store.add([answer(0), answer(1)])
    data = store.path.read_bytes()
    store.path.write_bytes(data[:-20])
    assert store.read() == [answer(0)]
    store.add([answer(2)])
    assert store.read() == [answer(0), answer(2)]


@pytest.mark.parametrize("content", ['{"prompt": 1}\n', "no JSON\n", "[1]\n"])
def test_another_file_is_refused(tmp_path, content):
    """A file that does not hold answers is an error that says what to do."""
    (tmp_path / "answers.jsonl").write_text(content)
    with pytest.raises(DataError, match=r"does not hold answers .*remove it"):
        Store(tmp_path / "answers.jsonl").read()


def test_a_place_that_can_not_be_written_to_is_told(tmp_path):
    """A file where the folder should be."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="can't be written"):
        Store(tmp_path / "file/answers.jsonl").add([answer()])


def test_means_leave_out_what_is_not_known():
    """A component that was skipped or could not be scored has no value."""
    found = means([answer(a=1.0), answer(a=None, tokens=5, right=None, is_cut=True)])
    assert found["component/a"] == 1.0
    assert found["length"] == 4.0
    assert found["truncated"] == found["unscored"] == 0.5
    assert math.isnan(means([answer(a=None)])["component/a"])


def test_only_problems_that_are_wholly_scored_are_counted():
    """A problem with an unscored sample is left out, so that pass@k has the same number of samples for all."""
    model_answers = ModelAnswers(
        "m", [], [answer(0), answer(0, 0), answer(0, 1, right=False), answer(1, 0), answer(1, 1, right=None)]
    )
    assert model_answers.counts() == {0: (2, 1)}
    assert model_answers.greedy_accuracy().value == 1.0
