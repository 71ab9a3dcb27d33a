"""Before a run: what is in the loss is shown, and what is odd about the data is told."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from rewardkit import FieldName, Rollout, reward
from rewardkit.cli.check_training import show
from rewardkit.errors import ConfigError
from rewardkit.registry import Registry
from rewardkit.train.config.reading import read_train_config
from rewardkit.train.preflight.preview import preview


@reward("needy")
def needy(rollout: Rollout, *, column: FieldName = "answer") -> float:
    """Reads a column."""
    return 0.0


REST = {
    "grpo": "reward: {components: {a: {use: needy}}}\nrollout: {max_new_tokens: 20, prompts_per_step: 2}\n",
    "ppo": "reward: {components: {a: {use: needy}}}\nrollout: {max_new_tokens: 20, prompts_per_step: 2}\n",
}


def look(work, folder, rows, stage="sft", **overrides):
    """Findings on some rows."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = f"version: 1\nstage: {stage}\noutput: out\nmodel: {{path: {work}/base}}\ndata: {{train: rows.jsonl}}\nsteps: 1\n"
    (folder / "config.yaml").write_text(common + REST.get(stage, ""))
    registry = Registry()
    registry.register(needy)
    file = read_train_config(folder / "config.yaml", registry, overrides)
    return file, preview(file)


def pair(prompt="1+1=", chosen="2", rejected="3"):
    """A row with a preference."""
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def many(count, make):
    """Different rows."""
    return [make(index) for index in range(count)]


def test_good_rows_are_shown_without_a_warning(work, tmp_path):
    """The response is in the loss, the prompt is not."""
    file, found = look(work, tmp_path, [{"prompt": "1+1=?", "completion": "2"}, {"prompt": "1+2=?", "completion": "3"}])
    assert found.warnings == found.problems == []
    assert found.sample == [("1+1=?", "context"), ("2<|end|>", "loss")]
    out = io.StringIO()
    show(file, found, Console(file=out, width=80, force_terminal=True))
    assert "nothing is odd about the data" in out.getvalue()
    assert "\x1b[32m2<|end|>\x1b[0m" in out.getvalue(), "green"
    assert "\x1b[2m1+1=?\x1b[0m" in out.getvalue(), "dim"


def test_weighted_spans_are_shown_and_patterns_that_match_nothing_told(work, tmp_path):
    """A weight other than 1 has a colour of its own."""
    rows = [{"prompt": "1+1=?", "completion": "12"}]
    _, found = look(work, tmp_path, rows, **{"loss.weights": '[{pattern: "2", weight: 3}]'})
    assert found.sample == [("1+1=?", "context"), ("1", "loss"), ("2", "weighted"), ("<|end|>", "loss")]
    _, found = look(work, tmp_path, rows, **{"loss.weights": '[{pattern: "7", weight: 3}]'})
    assert found.warnings == ["the pattern '7' of loss.weights changes the weight of no token"]


@pytest.mark.parametrize(
    ("rows", "overrides", "warning"),
    [
        ([{"prompt": "1", "completion": "2"}] * 3, {}, "2 of 3 examples are there more than once"),
        ([{"prompt": "1+1", "completion": "1+1=2"}], {}, "1 of 1 responses begin with their own prompt"),
        (
            [{"prompt": "1", "completion": "2" * 50}, {"prompt": "1", "completion": "2"}],
            {"max_tokens": "9"},
            "1 of 2 rows are longer than 9",
        ),
        (
            [{"prompt": "1", "completion": "1"}]
            + [{"prompt": str(n), "completion": "2"} for n in range(10)]
            + [{"prompt": "1", "completion": "2" * 100}],
            {},
            "lengths of rows are skewed",
        ),
        (
            [{"prompt": "1", "completion": "2"}],
            {"data.eval": "rows.jsonl"},
            "1 of 1 training examples are held-out ones, too",
        ),
        ([{"prompt": "1", "completion": "çççç"}], {}, "the tokenizer can't represent 1 of the first 1 texts"),
        ([{"prompt": "1", "completion": ""}, {"prompt": "2", "completion": "2"}], {}, "1 of 2 responses are empty"),
    ],
)
def test_odd_rows_are_told(work, tmp_path, rows, overrides, warning):
    """Duplicates, echoes, truncation, skew, leaks."""
    assert any(warning in text for text in look(work, tmp_path, rows, **overrides)[1].warnings)


def test_prompts_are_held_against_the_context(work, tmp_path):
    """Those that leave no room are refused before anything is sampled; what a step costs is told."""
    rows = [{"prompt": "1" * 120, "answer": "2"}, {"prompt": "2", "answer": "2"}]
    _, found = look(work, tmp_path, rows, stage="grpo")
    assert found.problems == ["1 of 2 rows are longer than 128 tokens, their completions included, and will be refused"]
    assert found.facts["a step"].startswith("2 prompts × 8 = 16 rollouts, at most 320 sampled tokens")
    assert found.facts["the run"] == "1 steps, 16 rollouts, 1 × through the prompts"


def test_prompts_are_held_against_the_reward(work, tmp_path):
    """A column that no row has is refused; one that some rows lack is told with the first."""
    assert look(work, tmp_path, [{"prompt": "1"}, {"prompt": "2"}], stage="grpo")[1].problems == [
        "component 'a' reads the column 'answer', which no row of data.train has"
    ]
    found = look(work, tmp_path, [{"prompt": "1", "answer": "1"}, {"prompt": "2"}], stage="ppo")[1]
    assert found.problems == []
    assert any("1 of 2 rows: a: " in text and "rows.jsonl:2" in text for text in found.warnings)


def test_prompts_that_are_held_out_or_too_few_are_told(work, tmp_path):
    """Before an accuracy is believed."""
    _, found = look(work, tmp_path, [{"prompt": "1", "answer": "1"}], "grpo", **{"data.eval": "rows.jsonl"})
    assert "1 of 1 training prompts are held-out ones, too" in found.warnings
    assert any("a step takes 2 prompts and there are 1" in text for text in found.warnings)


@pytest.mark.parametrize(
    ("measure", "told"), [({}, True), ({"evaluate.correct": "a > 0"}, False), ({"data.eval": "null"}, False)]
)
def test_an_evaluation_that_says_little_is_told(work, tmp_path, measure, told):
    """One completion of a prompt has none to be compared to, so a reward that is scaled in its group says nothing of a model."""
    rows = [{"prompt": f"{one}+1=?", "answer": "1"} for one in range(4)]
    scaled = {"reward.components.a": "{use: needy, scale: zscore}", "data.eval": str(tmp_path / "rows.jsonl")}
    _, found = look(work, tmp_path, rows, "grpo", **scaled | measure)
    assert any("set evaluate.correct or evaluate.gold" in warning for warning in found.warnings) is told


def test_a_condition_on_no_component_is_refused(work, tmp_path):
    """As training would."""
    with pytest.raises(ConfigError, match="there is no component 'b'"):
        look(work, tmp_path, [{"prompt": "1", "answer": "1"}], "grpo", **{"evaluate.correct": "b == 1"})


@pytest.mark.parametrize("stage", ["reward_model", "dpo"])
@pytest.mark.parametrize(
    ("rows", "overrides", "warning"),
    [
        ([pair(), *many(9, lambda n: pair(f"{n}+0="))], {}, None),
        ([pair()] * 3 + many(9, lambda n: pair(f"{n}+0=")), {}, "2 of 12 pairs are there more than once"),
        ([pair("1=", "1", "2"), pair("1=", "2", "1")], {}, "2 of 2 pairs are there the other way round, too"),
        (
            many(30, lambda n: pair(f"{n}=", "11", "1")),
            {},
            "the preferred answer is the longer one in 100% of the pairs",
        ),
        (
            many(30, lambda n: pair(f"{n}=", "1", "11")),
            {},
            "the preferred answer is the shorter one in 100% of the pairs",
        ),
        ([pair("1=", "2" * 40, "3" * 40), pair("2=")], {"max_tokens": "20"}, "1 of 2 pairs are longer than 20 tokens"),
        ([pair("1=", "ç2", "2"), pair("2=")], {}, "1 of 2 pairs have two answers that are the same tokens"),
        ([pair()], {"data.eval": "rows.jsonl"}, "1 of 1 training pairs are held-out ones, too"),
    ],
)
def test_odd_pairs_are_told(work, tmp_path, stage, rows, overrides, warning):
    """Duplicates, contradictions, length that tells the preference, truncation, answers that look alike, leaks."""
    settings = {"data.eval_share": "0", **overrides}
    _, found = look(work, tmp_path, rows, stage, **settings)
    nothing_held_out = "no pairs are held out: nothing will be known of how good the result is"
    if warning is None:
        assert found.warnings == [nothing_held_out]
        assert [kind for _, kind in found.sample] == ["context", "chosen", "context", "rejected"]
    else:
        assert any(warning in text for text in [*found.warnings, *found.problems]), found


LONG = "0" * 300


@pytest.mark.parametrize(
    ("stage", "rows", "held_out", "problem"),
    [
        ("dpo", [pair(LONG)], [pair()], "none of 1 pairs fits into 128 tokens"),
        ("dpo", [pair()], [pair(LONG)], "none of 1 held-out pairs fits into 128 tokens"),
        ("dpo", [pair(), pair(LONG)], [pair(), pair(LONG)], None),
        ("reward_model", [pair("1=", "ç2", "2"), pair("2=")], [pair()], "1 of 2 pairs have two answers"),
        ("reward_model", [pair()], [pair("1=", "ç2", "2")], None),
        ("sft", [{"prompt": "1", "completion": "2"}], [{"prompt": LONG, "completion": "2"}], "none of 1 held-out rows"),
        ("grpo", [{"prompt": "1", "answer": "2"}], [{"prompt": LONG, "answer": "2"}], "1 of 1 held-out rows"),
    ],
)
def test_what_training_refuses_is_a_problem(work, tmp_path, stage, rows, held_out, problem):
    """Of the rows to learn from as of those that are held out, and nothing else is one."""
    (tmp_path / "held_out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in held_out))
    _, found = look(work, tmp_path, rows, stage, **{"data.eval": "held_out.jsonl"})
    if problem is None:
        assert found.problems == []
    else:
        assert any(problem in text for text in found.problems), found


def test_truncation_that_removes_the_difference_is_told(work, tmp_path):
    """Of a dialogue that is too long the beginning goes, and with it what the two answers differ in."""
    rows = [pair("1=", "2" + "0" * 30, "3" + "0" * 30), pair("2=")]
    _, found = look(work, tmp_path, rows, "reward_model", **{"max_tokens": "20", "data.eval_share": "0"})
    assert any("1 pairs differ only in what max_tokens cuts off" in text for text in found.warnings)


def test_chat_templates_are_looked_at(work, tmp_path):
    """One that does not say whose turn it is, and text prompts where there is a template."""
    (tmp_path / "template.jinja").write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    chat = [{"prompt": [{"role": "user", "content": "1+1"}], "answer": "2"}]
    _, found = look(work, tmp_path, chat, "grpo", **{"model.chat_template": "template.jinja"})
    assert any("the chat template has no generation prompt" in text for text in found.warnings)
    whole = [{"messages": [*chat[0]["prompt"], {"role": "assistant", "content": "2"}]}]
    changes = {"model.chat_template": "template.jinja", "data.messages": "messages"}
    _, found = look(work, tmp_path, whole, **changes)
    assert any("the chat template has no generation prompt" in text for text in found.warnings)
    text = [{"prompt": "1+1", "answer": "2"}]
    _, found = look(work, tmp_path, text, "grpo", **{"model.chat_template": "template.jinja"})
    assert any("prompts are plain text, but the tokenizer has a chat template" in text for text in found.warnings)
