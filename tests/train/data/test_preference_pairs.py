"""Preference pairs: held out by content, rendered for a reward model and for DPO."""

import json

import pytest

from rewardkit.errors import DataError
from rewardkit.train.config import PairData
from rewardkit.train.data.rows import Row

TEMPLATE = (
    "{% for m in messages %}({{ m.role[0] }}{{ m.content }}{% if m.role == 'assistant' %}<|end|>{% endif %}){% endfor %}"
    "{% if add_generation_prompt %}(a{% endif %}"
)


def write(file, rows):
    """Rows as JSONL."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def row(tmp_path, **data):
    """One row with a place."""
    return Row(data, tmp_path / "pairs.jsonl", 7)


@pytest.fixture
def data(tmp_path):
    """Return the settings of the pairs."""
    return PairData(train=tmp_path / "pairs.jsonl")


@pytest.fixture
def tokenizer(policy):
    """A token for every character."""
    return policy.tokenizer


def texts(tokenizer, *answers):
    """Return the text of tokens."""
    return [tokenizer.decode(list(answer)) for answer in answers]


def test_held_out_by_the_prompt(tmp_path):
    """Rows of one prompt stay together, and the choice does not depend on the order of rows or on other rows."""
    from rewardkit.train.data.preference_pairs import read_pairs

    rows = [{"prompt": f"p{n % 40}", "chosen": f"c{n}", "rejected": f"r{n}"} for n in range(80)]
    one = PairData(train=write(tmp_path / "one.jsonl", rows), eval_share=0.3)
    two = PairData(train=write(tmp_path / "two.jsonl", rows[::-1][:60]), eval_share=0.3)
    train, held_out = read_pairs(one)
    prompts = {item.data["prompt"] for item in held_out}
    assert prompts
    assert prompts.isdisjoint(item.data["prompt"] for item in train)
    _, again = read_pairs(two)
    assert {item.data["prompt"] for item in again} <= prompts
    assert 5 <= len(held_out) <= 45


def test_whole_dialogues_are_held_out_by_what_they_share(tmp_path):
    """The common prefix of two whole dialogues is their prompt."""
    from rewardkit.train.data.preference_pairs import read_pairs

    rows = [{"chosen": f"q{n % 10}? yes{n}", "rejected": f"q{n % 10}? no{n}"} for n in range(40)]
    train, held_out = read_pairs(PairData(train=write(tmp_path / "p.jsonl", rows), eval_share=0.5))
    shared = {item.data["chosen"][:3] for item in held_out}
    assert shared
    assert shared.isdisjoint(item.data["chosen"][:3] for item in train)


def test_equal_answers_are_refused(tmp_path):
    """A pair of equal answers prefers nothing; the message names file and line."""
    from rewardkit.train.data.preference_pairs import read_pairs

    file = write(tmp_path / "p.jsonl", [{"chosen": "a", "rejected": "b"}, {"chosen": "a", "rejected": "a"}])
    with pytest.raises(DataError, match=r"p\.jsonl:2: .*equal"):
        read_pairs(PairData(train=file))


def test_a_named_prompt_column_must_be_there(tmp_path, tokenizer):
    """A column that the configuration names and a row lacks is an error, no dialogue without a prompt."""
    from rewardkit.train.data.preference_pairs import DialogueRenderer

    data = PairData(train=tmp_path / "p", prompt="question")
    DialogueRenderer(tokenizer, PairData(train=tmp_path / "p"), 64).dialogue(row(tmp_path, chosen="a"), "chosen")
    with pytest.raises(DataError, match="no value in column 'prompt'") as caught:
        DialogueRenderer(tokenizer, PairData(train=tmp_path / "p", prompt="prompt"), 64).dialogue(
            row(tmp_path, chosen="a"), "chosen"
        )
    assert "pairs.jsonl:7" in str(caught.value)
    with pytest.raises(DataError, match="no value in column 'question'"):
        DialogueRenderer(tokenizer, data, 64).dialogue(row(tmp_path, chosen="a"), "chosen")


def test_text_is_read_as_it_is(tmp_path, data, tokenizer):
    """A reward model reads prompt and answer as one text; too long a dialogue loses its beginning."""
    from rewardkit.train.data.preference_pairs import DialogueRenderer

    found = DialogueRenderer(tokenizer, data, 64).dialogue(row(tmp_path, prompt="1+1=", chosen="2"), "chosen")
    assert texts(tokenizer, found.tokens) == ["1+1=2"]
    assert (found.characters, found.is_cut, found.is_chat) == (1, False, False)
    cut = DialogueRenderer(tokenizer, data, 3).dialogue(row(tmp_path, prompt="1+1=", chosen="2"), "chosen")
    assert texts(tokenizer, cut.tokens) == ["1=2"]
    assert cut.is_cut


def test_messages_go_through_the_template(tmp_path, data, tokenizer):
    """Messages with a prompt of their own, and whole conversations, are rendered alike."""
    from rewardkit.train.data.preference_pairs import DialogueRenderer

    tokenizer.chat_template = TEMPLATE
    user, answer = {"role": "user", "content": "1+1"}, {"role": "assistant", "content": "2"}
    renderer = DialogueRenderer(tokenizer, data, 64)
    apart = renderer.dialogue(row(tmp_path, prompt=[user], chosen=[answer]), "chosen")
    half = renderer.dialogue(row(tmp_path, prompt=[user], chosen="2"), "chosen")
    whole = renderer.dialogue(row(tmp_path, chosen=[user, answer]), "chosen")
    assert apart == half
    assert apart.tokens == whole.tokens
    assert apart.is_chat
    assert texts(tokenizer, apart.tokens) == ["(u1+1)(a2<|end|>)"]


def test_mixed_forms_are_refused(tmp_path, data, tokenizer):
    """A prompt in text with an answer in messages has no rendering."""
    from rewardkit.train.data.preference_pairs import DialogueRenderer

    with pytest.raises(DataError, match="same form"):
        DialogueRenderer(tokenizer, data, 64).dialogue(
            row(tmp_path, prompt="1+1", chosen=[{"role": "assistant", "content": "2"}]), "chosen"
        )


@pytest.mark.parametrize("margin", ["much", None, True, float("inf"), float("nan")])
def test_a_margin_must_be_a_number(tmp_path, data, tokenizer, margin):
    """A margin that is text, or missing, is an error that names the row."""
    from rewardkit.train.data.preference_pairs import DialogueRenderer

    with pytest.raises(DataError, match=r"pairs\.jsonl:7"):
        DialogueRenderer(tokenizer, data, 64).pair(row(tmp_path, chosen="1", rejected="2", margin=margin), "margin")


def test_dpo_renders_like_imitation(tmp_path, data, tokenizer):
    """The tokens of the answer and the end-of-sequence token count for DPO, and those of the prompt do not."""
    from rewardkit.train.data.preference_pairs import AnswerRenderer

    pair = AnswerRenderer(tokenizer, data).pair(row(tmp_path, prompt="1+1=", chosen="2", rejected="30"))
    assert texts(tokenizer, pair.chosen.tokens, pair.rejected.tokens) == ["1+1=2<|end|>", "1+1=30<|end|>"]
    assert (pair.chosen.start, pair.chosen.weights) == (4, (1.0, 1.0))
    assert pair.tokens == 2 * 7


def test_dpo_takes_what_whole_texts_share_for_the_prompt(tmp_path, data, tokenizer):
    """Without a prompt column, the tokens after the common prefix count."""
    from rewardkit.train.data.preference_pairs import AnswerRenderer

    pair = AnswerRenderer(tokenizer, data).pair(row(tmp_path, chosen="1+1=2", rejected="1+1=3, no"))
    assert (pair.chosen.start, pair.rejected.start) == (4, 4)
    assert texts(tokenizer, pair.chosen.tokens[4:]) == ["2<|end|>"]
    with pytest.raises(DataError, match="is the beginning of the other"):
        AnswerRenderer(tokenizer, PairData(train=tmp_path, chosen="a", rejected="b")).pair(row(tmp_path, a="", b=""))


def test_dpo_on_conversations(tmp_path, data, tokenizer):
    """The last turn of whole conversations counts."""
    from rewardkit.train.data.preference_pairs import AnswerRenderer

    tokenizer.chat_template = TEMPLATE
    start = [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "3"}]
    pair = AnswerRenderer(tokenizer, data).pair(
        row(
            tmp_path,
            chosen=[*start, {"role": "assistant", "content": "4"}],
            rejected=[*start, {"role": "assistant", "content": "5"}],
        )
    )
    counted = [
        token
        for token, weight in zip(pair.chosen.tokens[pair.chosen.start :], pair.chosen.weights, strict=True)
        if weight
    ]
    assert texts(tokenizer, counted) == ["4<|end|>"]


def test_a_row_that_lacks_its_prompt_is_no_whole_dialogue(tmp_path):
    """Whether or not the configuration names the column: other rows have it."""
    from rewardkit.train.data.preference_pairs import read_pairs

    rows = [{"prompt": "p", "chosen": f"c{n}", "rejected": "r"} for n in range(4)]
    rows[2]["prompt"] = None
    with pytest.raises(DataError, match=r"pairs.jsonl:3: there is no value in column 'prompt', which 3 of 4 rows have"):
        read_pairs(PairData(train=write(tmp_path / "pairs.jsonl", rows), eval_share=0))


def test_a_reward_model_is_trained_on_one_form(tmp_path, data, tokenizer):
    """Text and messages in one file would be rendered differently, and only one of them is what the model is scored with."""
    from rewardkit.train.data.preference_pairs import DialogueRenderer

    tokenizer.chat_template = TEMPLATE
    renderer = DialogueRenderer(tokenizer, data, 100)
    renderer.pair(row(tmp_path, prompt="1", chosen="2", rejected="3"), None)
    with pytest.raises(DataError, match="7: this dialogue consists of chat messages, and those before it of text"):
        renderer.pair(row(tmp_path, prompt=[{"role": "user", "content": "1"}], chosen="2", rejected="3"), None)
