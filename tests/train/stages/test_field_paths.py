"""A column of training data may be a path into nested columns, in every stage."""

from __future__ import annotations

import json

import pytest
from safetensors.torch import load_file

from rewardkit import FieldName, Rollout, reward
from rewardkit.registry import Registry
from rewardkit.train import train

ROWS = 24
FLAT = {
    "sft": {"prompt": "prompt", "completion": "completion"},
    "dpo": {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"},
    "reward_model": {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"},
    "grpo": {"prompt": "prompt"},
    "ppo": {"prompt": "prompt"},
}
NESTED = {
    "sft": {"prompt": "turns.0.content", "completion": "turns.1.content"},
    "dpo": {"prompt": "turns.0.content", "chosen": "answers.good", "rejected": "answers.bad"},
    "reward_model": {"prompt": "turns.0.content", "chosen": "answers.good", "rejected": "answers.bad"},
    "grpo": {"prompt": "turns.0.content"},
    "ppo": {"prompt": "turns.0.content"},
}


@reward("same_digits")
def same_digits(rollout: Rollout, *, gold: FieldName) -> float:
    """Count the characters that the completion shares with the reference."""
    return float(len(set(rollout.completion_text) & set(rollout.fields[gold])))


def rows():
    """Yield rows whose columns exist both flat and nested."""
    for number in range(ROWS):
        prompt, good, bad = f"{number}+1=?", str(number + 1), str(number + 2)
        flat = {"prompt": prompt, "completion": good, "chosen": good, "rejected": bad, "answer": good}
        turns = [{"content": prompt}, {"content": good}]
        yield (
            flat,
            {"turns": turns, "answers": {"good": good, "bad": bad}, "reward_model": {"ground_truth": good}},
        )


@pytest.mark.parametrize("stage", FLAT)
def test_nested_columns_train_as_flat_ones(work, tmp_path, stage):
    """Nested columns in two files that a glob matches give the weights that flat columns in one file give."""
    registry = Registry()
    registry.register(same_digits)
    flat, nested = zip(*rows(), strict=True)
    for name, some in (("flat", flat), ("nested-1", nested[:10]), ("nested-2", nested[10:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    models = []
    for name, columns, gold in (("flat", FLAT, "answer"), ("nested", NESTED, "reward_model.ground_truth")):
        data = {"train": str(tmp_path / f"{name}*.jsonl"), "eval": str(tmp_path / f"{name}*.jsonl"), **columns[stage]}
        config = {
            "version": 1,
            "stage": stage,
            "output": str(tmp_path / name),
            "model": {"path": str(work / "base")},
            "data": data,
            "optimizer": {"lr": 0.001},
            "steps": 2,
            "threads": 1,
        }
        if stage in {"grpo", "ppo"}:
            config |= {
                "reward": {"components": {"same": {"use": "same_digits", "with": {"gold": gold}}}},
                "rollout": {"prompts_per_step": 4, "group_size": 4, "max_new_tokens": 6},
                "evaluate": {"correct": f"fields['{gold}'] == '7' or same > 0"},
            }
        models.append(load_file(train(config, registry=registry).model / "model.safetensors"))
    one, two = models
    assert all(one[key].equal(two[key]) for key in one)
    assert not all(value.equal(load_file(work / "base/model.safetensors")[key]) for key, value in one.items())
