"""What the adapters share."""

import pytest

from rewardkit import load_reward
from rewardkit.errors import DataError, UsageError
from rewardkit.integrations.common import (
    completion_of,
    label_column,
    plain,
    refuse_groups,
    refuse_schedules,
    refuse_tokens,
    refuse_unknown,
    require,
    row_fields,
    shared_reward,
    token_counter,
)

MATH = "version: 1\ncomponents:\n  right: {use: math, with: {reference: answer}}\n"
TWO = MATH + "  fmt: {use: format.boxed, when: fields.kind == 'm'}\n"


def test_a_file_is_loaded_once(file) -> None:
    """All adapters of a process share a file's reward."""
    path = file()
    assert shared_reward(path) is shared_reward(path)


def test_groups_are_refused() -> None:
    """The message names what compares rollouts of a group."""
    text = "version: 1\ncomponents: {right: {use: math, with: {reference: answer}, scale: zscore}}\n"
    with load_reward(text) as reward, pytest.raises(UsageError, match="verl scores one rollout at a time"):
        refuse_groups(reward, "verl")


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ('finish_reason == "stop"', "brief needs the finish reason, which verl does not tell"),
        ("num_tokens < 9", "brief needs the number of tokens, which verl does not tell"),
    ],
)
def test_conditions_need_what_they_read(condition: str, message: str) -> None:
    """What a condition reads is refused like what a component reads; a tokenizer supplies the number of tokens."""
    text = f"version: 1\ncomponents: {{brief: {{use: format.boxed, when: '{condition}'}}}}\n"
    with load_reward(text) as reward:
        with pytest.raises(UsageError, match=message):
            refuse_unknown(reward, "verl")
        if "num_tokens" in condition:
            refuse_unknown(reward, "verl", tokenizer=len)


class _Tokenizer:
    """As those of transformers: an end token is added unless it is asked for none."""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return [*map(ord, text), *([0] if add_special_tokens else [])]


@pytest.mark.parametrize("tokenizer", [_Tokenizer(), len, list])
def test_a_tokenizer_counts_tokens(tokenizer) -> None:
    """A tokenizer, or a function that returns tokens or their number; without special tokens."""
    assert token_counter(tokenizer)("four") == 4


def test_what_is_no_tokenizer_is_refused() -> None:
    """The message says what was found."""
    with pytest.raises(UsageError, match="or a function, not 3"):
        token_counter(3)


@pytest.mark.parametrize(("unit", "refused"), [("tokens", True), ("chars", False)])
def test_tokens_are_refused(unit: str, refused: bool) -> None:
    """A component that counts tokens is refused where they are unknown; one that counts characters is not."""
    text = f"version: 1\ncomponents: {{short: {{use: length.overlong, with: {{max_{unit}: 16, buffer: 8}}}}}}\n"
    with load_reward(text) as reward:
        if refused:
            with pytest.raises(UsageError, match="short needs the number of tokens, which OpenRLHF does not tell"):
                refuse_tokens(reward, "OpenRLHF")
        else:
            refuse_tokens(reward, "OpenRLHF")


def test_a_plain_label_is_the_only_column() -> None:
    """A label stands for the one column that is read; where several are, the column must be named."""
    with load_reward(MATH) as one, load_reward(TWO) as two:
        assert label_column(one) == "answer"
        assert row_fields(one, "5", None, "a row") == {"answer": "5"}
        assert row_fields(two, "5", None, "a row", {"kind": "m"}) == {"answer": "5", "kind": "m"}
        with pytest.raises(UsageError, match="reads the columns answer, kind"):
            row_fields(two, "5", None, "a row")
        with pytest.raises(DataError, match=r"a row has no column 'kind', which .* reads; it has 'answer'"):
            row_fields(two, "5", "answer", "a row")
        assert row_fields(two, {"answer": "5", "kind": "m"}, None, "a row") == {"answer": "5", "kind": "m"}


def test_another_column_of_that_name_is_not_taken_for_the_label() -> None:
    """The solution as text beside the number, as verl's GSM8K has them, must not be what the answer is compared with."""
    with load_reward(MATH) as one, load_reward(TWO) as two:
        assert row_fields(one, "5", None, "a row", {"answer": "2+3=5 #### 5"}) == {"answer": "5"}
        with pytest.raises(UsageError, match="reads the columns answer, kind"):
            row_fields(two, "5", None, "a row", {"answer": "2+3=5 #### 5", "kind": "m"})


def test_schedules_are_refused_where_no_step_is_told() -> None:
    """A weight that would stay at its first value is refused; one of a single point is constant."""
    text = "version: 1\ncomponents: {{right: {{use: math, with: {{reference: answer}}, weight: {weight}}}}}\n"
    message = "the weight of right depends on the training step, which verl does not tell"
    varying = load_reward(text.format(weight="{linear: {from: 0.0, to: 1.0, steps: [0, 10]}}"))
    with varying, pytest.raises(UsageError, match=message):
        refuse_schedules(varying, "verl")
    with load_reward(text.format(weight="0.5")) as reward:
        refuse_schedules(reward, "verl")


def test_values_of_pandas_become_plain() -> None:
    """Arrays and scalars become lists and numbers; what is missing becomes None."""
    numpy = pytest.importorskip("numpy")
    assert plain({"a": numpy.array([1, 2]), "b": numpy.float64("nan"), "c": numpy.int64(3), "d": (1.5, None)}) == {
        "a": [1, 2],
        "b": None,
        "c": 3,
        "d": [1.5, None],
    }
    assert type(plain(numpy.float64(1.5))) is float


def test_missing_values_of_pandas_become_none() -> None:
    """NA and NaT are None."""
    pandas = pytest.importorskip("pandas")
    assert plain([pandas.NA, pandas.NaT]) == [None, None]


@pytest.mark.parametrize(
    ("query", "prompt", "completion"),
    [
        ("q5", "q", "5"),
        ("<s> q5</s>", "q", "5"),
        ("<|im_start|>user\nq<|im_end|>\n5<|im_end|>\n<|endoftext|>", "<|im_start|>user\nq<|im_end|>\n", "5"),
        ("q a < b <c>", "q", " a < b <c>"),
    ],
)
def test_prompt_and_special_tokens_are_cut_off(query: str, prompt: str, completion: str) -> None:
    """What is left of a decoded sequence is the completion alone."""
    assert completion_of(query, prompt) == completion


def test_another_prompt_is_refused() -> None:
    """A query that does not begin with its prompt would have its answer read out of the question."""
    with pytest.raises(DataError, match="does not begin with its prompt"):
        completion_of("What is 5? 5", "What is 6?")


def test_versions_are_checked(monkeypatch) -> None:
    """A missing or an old distribution is named with what to install."""
    with pytest.raises(UsageError, match=r"nothing-here is not installed: pip install 'nothing-here>=1\.2'"):
        require("nothing-here", (1, 2), "is broken")
    monkeypatch.setattr("importlib.metadata.version", lambda _: "1.1.9")
    with pytest.raises(UsageError, match=r"toy 1\.1\.9 is broken: pip install 'toy>=1\.2'"):
        require("toy", (1, 2), "is broken")
