"""The preview shows what is in the loss, and reports what looks wrong with the data."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from rewardkit import FieldName, Rollout, reward
from rewardkit.cli.support.check_training import show
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
    """Return the findings on some rows."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = f"version: 1\nstage: {stage}\noutput: out\nmodel: {{path: {work}/base}}\ndata: {{train: rows.jsonl}}\nsteps: 1\n"
    (folder / "config.yaml").write_text(common + REST.get(stage, ""))
    registry = Registry()
    registry.register(needy)
    file = read_train_config(folder / "config.yaml", registry, overrides)
    return file, preview(file)


def pair(prompt="1+1=", chosen="2", rejected="3"):
    """Return a row with a preference."""
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def many(count, make):
    """Return different rows."""
    return [make(index) for index in range(count)]


def test_good_rows_are_shown_without_a_warning(work, tmp_path):
    """The response is in the loss, the prompt is not, and the loss is marked with and without colour."""
    file, found = look(work, tmp_path, [{"prompt": "1+1=?", "completion": "2"}, {"prompt": "1+2=?", "completion": "3"}])
    assert found.warnings == found.problems == []
    assert found.sample == [("1+1=?", "context"), ("2<|end|>", "loss")]
    out = io.StringIO()
    show(file, found, Console(file=out, width=80, force_terminal=True))
    assert "the data have no problems" in out.getvalue()
    assert "\x1b[32m⟦2<|end|>⟧\x1b[0m" in out.getvalue(), "green, and marked"
    assert "\x1b[2m1+1=?\x1b[0m" in out.getvalue(), "dim"


def test_weighted_spans_are_shown_and_patterns_that_match_nothing_told(work, tmp_path):
    """A weight other than 1 has its own colour."""
    rows = [{"prompt": "1+1=?", "completion": "12"}]
    _, found = look(work, tmp_path, rows, **{"loss.weights": '[{pattern: "2", weight: 3}]'})
    assert found.sample == [("1+1=?", "context"), ("1", "loss"), ("2", "weighted"), ("<|end|>", "loss")]
    _, found = look(work, tmp_path, rows, **{"loss.weights": '[{pattern: "7", weight: 3}]'})
    assert found.warnings == ["the pattern '7' of loss.weights changes the weight of no token"]


@pytest.mark.parametrize(
    ("rows", "overrides", "warning"),
    [
        ([{"prompt": "1", "completion": "2"}] * 3, {}, "2 of 3 examples are duplicates"),
        ([{"prompt": "1+1", "completion": "1+1=2"}], {}, "1 of 1 responses start with their own prompt"),
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
            "1 of 1 training examples are also held out",
        ),
        ([{"prompt": "1", "completion": "çççç"}], {}, "the tokenizer can't represent 1 of the first 1 texts"),
        ([{"prompt": "1", "completion": ""}, {"prompt": "2", "completion": "2"}], {}, "1 of 2 responses are empty"),
    ],
)
def test_odd_rows_are_told(work, tmp_path, rows, overrides, warning):
    """Duplicates, echoed prompts, truncation, skewed lengths and leaks are reported."""
    assert any(warning in text for text in look(work, tmp_path, rows, **overrides)[1].warnings)


def test_prompts_are_held_against_the_context(work, tmp_path):
    """Prompts that leave no room for a completion will be left out, and the cost of a step is shown."""
    rows = [{"prompt": "1" * 120, "answer": "2"}, {"prompt": "2", "answer": "2"}]
    _, found = look(work, tmp_path, rows, stage="grpo")
    assert found.problems == []
    assert "1 of 2 rows, with their completions, are longer than 128 tokens and will be left out" in found.warnings
    assert found.facts["a step"].startswith("2 prompts × 8 = 16 rollouts, at most 320 sampled tokens")
    assert found.facts["the run"] == "1 steps, 16 rollouts, 1 epochs of the prompts"


def test_prompts_that_are_all_too_long_are_a_problem(work, tmp_path):
    """Training would have nothing to sample for."""
    [problem] = look(work, tmp_path, [{"prompt": "1" * 120, "answer": "2"}], stage="grpo")[1].problems
    assert problem.startswith("none of 1 rows, with their completions, fits into the model's context of 128 tokens")


def test_prompts_are_held_against_the_reward(work, tmp_path):
    """A column that no row has is refused; one that some rows lack is reported with the first of them."""
    [problem] = look(work, tmp_path, [{"prompt": "1"}, {"prompt": "2"}], stage="grpo")[1].problems
    assert problem.endswith("config.yaml:7:32: component 'a' reads column 'answer', which no row of data.train has")
    found = look(work, tmp_path, [{"prompt": "1", "answer": "1"}, {"prompt": "2"}], stage="ppo")[1]
    assert found.problems == []
    assert any("1 of 2 rows: a: " in text and "rows.jsonl:2" in text for text in found.warnings)


def test_prompts_that_are_held_out_or_too_few_are_told(work, tmp_path):
    """An evaluation that says little is reported."""
    _, found = look(work, tmp_path, [{"prompt": "1", "answer": "1"}], "grpo", **{"data.eval": "rows.jsonl"})
    assert "1 of 1 training prompts are also held out" in found.warnings
    assert any("a step takes 2 prompts but there are only 1" in text for text in found.warnings)


@pytest.mark.parametrize(
    ("measure", "told"), [({}, True), ({"evaluate.correct": "a > 0"}, False), ({"data.eval": "null"}, False)]
)
def test_an_evaluation_that_says_little_is_told(work, tmp_path, measure, told):
    """A reward that is scaled within its group says nothing about a single greedy completion."""
    rows = [{"prompt": f"{one}+1=?", "answer": "1"} for one in range(4)]
    scaled = {"reward.components.a": "{use: needy, scale: zscore}", "data.eval": str(tmp_path / "rows.jsonl")}
    _, found = look(work, tmp_path, rows, "grpo", **scaled | measure)
    assert any("set evaluate.correct or evaluate.gold" in warning for warning in found.warnings) is told


def test_a_condition_on_no_component_is_refused(work, tmp_path):
    """A component that does not exist is an error, as in training."""
    overrides = {"evaluate.correct": "b == 1", "data.eval": str(tmp_path / "rows.jsonl")}
    with pytest.raises(ConfigError, match="there is no component 'b'"):
        look(work, tmp_path, [{"prompt": "1", "answer": "1"}], "grpo", **overrides)


@pytest.mark.parametrize("stage", ["reward_model", "dpo"])
@pytest.mark.parametrize(
    ("rows", "overrides", "warning"),
    [
        ([pair(), *many(9, lambda n: pair(f"{n}+0="))], {}, None),
        ([pair()] * 3 + many(9, lambda n: pair(f"{n}+0=")), {}, "2 of 12 pairs are duplicates"),
        ([pair("1=", "1", "2"), pair("1=", "2", "1")], {}, "2 of 2 pairs also occur with the opposite preference"),
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
        ([pair("1=", "ç2", "2"), pair("2=")], {}, "1 of 2 pairs have two equal answers"),
        ([pair()], {"data.eval": "rows.jsonl"}, "1 of 1 training pairs are also held out"),
    ],
)
def test_odd_pairs_are_told(work, tmp_path, stage, rows, overrides, warning):
    """Duplicates, contradictions, length bias, truncation, equal answers and leaks are reported."""
    settings = {"data.eval_share": "0", **overrides}
    _, found = look(work, tmp_path, rows, stage, **settings)
    nothing_held_out = "no pairs are held out: the trained model can't be evaluated"
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
        ("reward_model", [pair("1=", "ç2", "2"), pair("2=")], [pair()], "1 of 2 pairs have two equal answers"),
        ("reward_model", [pair()], [pair("1=", "ç2", "2")], None),
        ("sft", [{"prompt": "1", "completion": "2"}], [{"prompt": LONG, "completion": "2"}], "none of 1 held-out rows"),
        ("grpo", [{"prompt": "1", "answer": "2"}], [{"prompt": LONG, "answer": "2"}], "none of 1 held-out rows, with"),
    ],
)
def test_what_training_refuses_is_a_problem(work, tmp_path, stage, rows, held_out, problem):
    """Training and held-out rows that training refuses are problems, and others are not."""
    (tmp_path / "held_out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in held_out))
    _, found = look(work, tmp_path, rows, stage, **{"data.eval": "held_out.jsonl"})
    if problem is None:
        assert found.problems == []
    else:
        assert any(problem in text for text in found.problems), found


def test_truncation_that_removes_the_difference_is_told(work, tmp_path):
    """Two answers that only differ in a part that is cut off are reported."""
    rows = [pair("1=", "2" + "0" * 30, "3" + "0" * 30), pair("2=")]
    _, found = look(work, tmp_path, rows, "reward_model", **{"max_tokens": "20", "data.eval_share": "0"})
    assert any("1 pairs only differ in what max_tokens cuts off" in text for text in found.warnings)


def test_chat_templates_are_looked_at(work, tmp_path):
    """A template without a generation prompt, and text prompts beside a template, are reported."""
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
