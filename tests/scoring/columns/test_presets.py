"""Rows of other systems, in the shapes that these write, become rollouts."""

from typing import Any

import pytest

from rewardkit.errors import UsageError
from rewardkit.scoring.columns.columns import Columns

CHAT = [{"role": "user", "content": "2+3?"}]
SAID = [{"role": "assistant", "content": "5"}]
GYM_OUTPUT = [
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "5"}], "status": "completed"},
    {"type": "function_call_output", "call_id": "c", "output": "done"},
]
ROWS: list[tuple[str, dict[str, Any], list[dict[str, Any]]]] = [
    (
        "verl",
        {
            "data_source": "gsm8k",
            "prompt": CHAT,
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": "5"},
            "extra_info": {"index": 7, "answer": "2+3=5 #### 5"},
            "responses": ["5", "6"],
        },
        [
            {
                "prompt": CHAT,
                "completion": said,
                "answer": "5",
                "index": 7,
                "data_source": "gsm8k",
                "completion_index": n,
            }
            for n, said in enumerate(["5", "6"])
        ],
    ),
    (
        "verl",
        {"input": "2+3?", "output": "5", "gts": "5", "score": 1.0, "step": 3},
        [{"prompt": "2+3?", "completion": "5", "answer": "5", "score": 1.0}],
    ),
    (
        "trl",
        {"prompt": CHAT, "completion": SAID, "solution": "5"},
        [{"prompt": CHAT, "completion": SAID, "answer": "5", "solution": "5"}],
    ),
    (
        "openinstruct",
        {"messages": CHAT, "ground_truth": "5", "dataset": "gsm8k", "response": "5"},
        [{"prompt": CHAT, "completion": "5", "answer": "5", "data_source": "gsm8k", "dataset": "gsm8k"}],
    ),
    (
        "open-instruct",
        {"messages": CHAT + SAID, "ground_truth": ["5"], "dataset": "gsm8k"},
        [{"prompt": CHAT, "completion": SAID, "answer": ["5"]}],
    ),
    (
        "gym",
        {
            "responses_create_params": {"input": CHAT, "tools": []},
            "response": {
                "output": GYM_OUTPUT,
                "usage": {"output_tokens": 9},
                "status": "incomplete",
                "incomplete_details": {"reason": "max_output_tokens"},
            },
            "expected_answer": "5",
            "reward": 1.0,
        },
        [
            {
                "prompt": CHAT,
                "completion": [
                    {"role": "assistant", "content": [{"type": "output_text", "text": "5"}]},
                    {"role": "tool", "content": "done"},
                ],
                "answer": "5",
                "num_tokens": 9,
                "finish_reason": "length",
                "gym_reward": 1.0,
            }
        ],
    ),
    (
        "skyrl",
        {"prompt": CHAT, "env_class": "gsm8k", "reward_spec": {"method": "rule", "ground_truth": "5"}, "response": "5"},
        [{"prompt": CHAT, "completion": "5", "answer": "5", "env_class": "gsm8k"}],
    ),
    (
        "skyrl",
        {
            "input_prompt": "2+3?",
            "output_response": "5",
            "stop_reason": "length",
            "env_extras": {"reward_spec": {"ground_truth": "5"}, "level": 2},
        },
        [{"prompt": "2+3?", "completion": "5", "answer": "5", "finish_reason": "length", "level": 2}],
    ),
    (
        "inspect",
        {
            "input": "2+3?",
            "target": ["5"],
            "metadata": {"level": 2},
            "output": {"completion": "5", "usage": {"output_tokens": 4}, "choices": [{"stop_reason": "max_tokens"}]},
        },
        [{"prompt": "2+3?", "completion": "5", "answer": "5", "num_tokens": 4, "finish_reason": "length", "level": 2}],
    ),
    (
        "lighteval",
        {
            "doc": {"query": "2+3?", "choices": ["4", "5"], "gold_index": 1, "specific": {"level": 2}},
            "model_response": {"text": ["5", "6"]},
            "metric": {"accuracy": 1.0},
        },
        [
            {"prompt": "2+3?", "completion": said, "answer": "5", "level": 2, "completion_index": n}
            for n, said in enumerate(["5", "6"])
        ],
    ),
]


@pytest.mark.parametrize(("preset", "row", "expected"), ROWS, ids=[f"{name}-{n}" for n, (name, *_) in enumerate(ROWS)])
def test_rows_of_a_system(preset: str, row: dict[str, Any], expected: list[dict[str, Any]]) -> None:
    """Prompt, completion, answer and the further columns are found where the system writes them."""
    found = list(Columns.parse([f"@{preset}"]).rows(row))
    assert len(found) == len(expected)
    for one, wanted in zip(found, expected, strict=True):
        assert {name: one.get(name) for name in wanted} == wanted


def test_a_rename_goes_before_the_preset() -> None:
    """What the user names is taken, and the preset gives the rest."""
    row = {"prompt": CHAT, "reward_model": {"ground_truth": "5"}, "mine": "6", "responses": ["7"]}
    (found,) = Columns.parse(["@verl", "completion=mine"]).rows(row)
    assert (found["completion"], found["answer"]) == ("6", "5")


def test_types_follow_the_columns() -> None:
    """Columns keep the Arrow types of the places where they come from; those of converted ones are unknown."""
    import pyarrow as pa

    response = pa.struct({"output": pa.list_(pa.string()), "usage": pa.struct({"output_tokens": pa.int32()})})
    types = {"responses_create_params": pa.struct({"input": pa.string()}), "response": response, "reward": pa.float32()}
    found = Columns.parse(["@gym"]).types(types)
    assert found == {
        "responses_create_params": types["responses_create_params"],
        "response": response,
        "prompt": pa.string(),
        "num_tokens": pa.int32(),
        "gym_reward": pa.float32(),
    }


def test_unknown_presets_are_named() -> None:
    """The message lists the presets, and the one that was perhaps meant."""
    with pytest.raises(UsageError, match=r"there is no such preset; there are @verl, .*did you mean 'verl'"):
        Columns.parse(["@verll"])
    with pytest.raises(UsageError, match="not both @verl and @trl"):
        Columns.parse(["@verl", "@trl"])
