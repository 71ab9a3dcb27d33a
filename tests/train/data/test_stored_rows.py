"""Rendered rows in files that all processes map into memory."""

from __future__ import annotations

import pytest

from rewardkit.errors import DataError
from rewardkit.train.data.preference_pairs import AnswerPair, Dialogue, ScoredPair, pair_lengths
from rewardkit.train.data.stored_rows import BATCH, StoredRows, stored_rows, tokenizer_digest
from rewardkit.train.data.tokenization import Example

EXAMPLES = [
    Example(tuple(range(3, 5 + row % 7)), 1, (1.0,) * (1 + row % 7), f"a.jsonl:{row}") for row in range(BATCH + 9)
]


def store(folder, rows=EXAMPLES, kind=Example, key=dict, calls=None):
    """Store rows, and note that they were rendered."""

    def render(facts):
        if calls is not None:
            calls.append(1)
        yield from rows
        facts["left_out"] = 3

    return stored_rows(folder, "train", kind, key, render)


def test_rows_come_back_as_they_were(tmp_path):
    """One by one, from the end, as slices and in a loop, beyond the first batch; with the facts and the numbers of tokens."""
    found = store(tmp_path)
    assert list(found) == EXAMPLES
    assert [found[-1], *found[510:515]] == [EXAMPLES[-1], *EXAMPLES[510:515]]
    assert found.sizes("tokens") == [len(row.tokens) for row in EXAMPLES]
    assert found.facts == {"left_out": 3}
    with pytest.raises(IndexError):
        found[len(EXAMPLES)]


@pytest.mark.parametrize("kind", [AnswerPair, ScoredPair])
def test_pairs_come_back_as_they_were(tmp_path, kind):
    """Rows may hold others. Their lengths are known without decoding them."""
    if kind is AnswerPair:
        pairs = [AnswerPair(EXAMPLES[row], EXAMPLES[row + 1]) for row in range(9)]
    else:
        one, two = Dialogue((4, 5, 6), 2, is_cut=True, is_chat=False), Dialogue((4,), 1, is_cut=False, is_chat=True)
        pairs = [ScoredPair(one, two, 0.5), ScoredPair(two, one, 0.0)]
    found = store(tmp_path, pairs, kind)
    assert list(found) == pairs
    assert pair_lengths(found) == pair_lengths(pairs)


def test_no_rows_are_stored_as_none(tmp_path):
    """As when nothing is held out."""
    found = store(tmp_path, [])
    assert (list(found), found.sizes("tokens"), bool(found)) == ([], [], False)


def test_rows_are_rendered_again_only_if_something_changed(tmp_path):
    """The file of an earlier start is found by its key; another key, or none, renders anew and leaves one file."""
    calls = []
    keys = [lambda: {"template": 1}, lambda: {"template": 1}, lambda: {"template": 2}, None, None]
    for key, rendered in zip(keys, (1, 1, 2, 3, 4), strict=True):
        store(tmp_path, key=key, calls=calls)
        assert len(calls) == rendered
        assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("damage", ["cut off", "empty", "changed"])
def test_a_damaged_file_is_rendered_again(tmp_path, damage):
    """Neither a file that was cut off is read, nor one that Arrow reads, but whose content is another."""
    store(tmp_path)
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    place = content.index(b"a.jsonl:77")
    damaged = {
        "cut off": content[:-100],
        "empty": b"",
        "changed": content[:place] + b"b" + content[place + 1 :],
    }
    file.write_bytes(damaged[damage])
    calls = []
    assert list(store(tmp_path, calls=calls)) == EXAMPLES
    assert calls == [1]
    assert [found.read_bytes() for found in tmp_path.iterdir()] == [content]


@pytest.mark.parametrize("bad", [0, BATCH + 1])
def test_a_bad_row_leaves_no_file(tmp_path, bad):
    """What was rendered before is not taken for everything by the next start."""

    def rows():
        yield from EXAMPLES[:bad]
        raise DataError(f"a.jsonl:{bad}: bad")

    with pytest.raises(DataError, match=f"a.jsonl:{bad}: bad"):
        store(tmp_path / "tokens", rows())
    assert not (tmp_path / "tokens").exists() or not list((tmp_path / "tokens").iterdir())


def test_one_process_renders_for_all(tmp_path, in_processes):
    """The others map its file into memory."""

    def share():
        calls = []
        return list(store(tmp_path, calls=calls)) == EXAMPLES, len(calls)

    assert in_processes(2, share) == [(True, 1), (True, 0)]


def test_the_key_covers_the_chat_template(policy):
    """Another template renders other tokens."""
    before = tokenizer_digest(policy.tokenizer)
    policy.tokenizer.chat_template = "{{ messages }}"
    assert tokenizer_digest(policy.tokenizer) != before


def test_stored_rows_are_not_copied(tmp_path):
    """The tokens are where the file is mapped: Arrow has allocated next to nothing for them."""
    import pyarrow as pa

    store(tmp_path, EXAMPLES * 20)
    (file,) = tmp_path.iterdir()
    before = pa.total_allocated_bytes()
    found = StoredRows(Example, file)
    assert found.sizes("tokens")[-1] == len(EXAMPLES[-1].tokens)
    assert pa.total_allocated_bytes() - before < file.stat().st_size / 4
