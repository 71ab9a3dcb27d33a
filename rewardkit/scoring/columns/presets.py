"""Presets of ``--map``: the columns of other systems' data sets and rollouts, and what they are to a rollout.

| Preset | Rows |
|---|---|
| ``@verl`` | ``data_source, prompt, reward_model, extra_info``, with ``responses``; dumped rollouts (``input, output, gts``) |
| ``@trl`` | ``prompt``, ``completion`` and ``answer`` or ``solution`` |
| ``@openinstruct`` | ``messages, ground_truth, dataset`` |
| ``@gym`` | NeMo-Gym's ``responses_create_params, response`` and the verifier's fields |
| ``@skyrl`` | ``prompt, env_class, reward_spec``, and dumped evaluations (``input_prompt, output_response, env_extras``) |
| ``@inspect`` | samples (``input, target, metadata``), with the ``output`` of a log |
| ``@lighteval`` | saved details (``doc, model_response, metric``) |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rewardkit.errors import UsageError
from rewardkit.scoring.columns.paths import suggestion, type_at, value_at

RENAMED = frozenset({"prompt", "completion", "gym_reward"})
"""Columns that are renamed. Others are copied, since a reward may read them by their own names, too."""


@dataclass(frozen=True, slots=True)
class Preset:
    """The columns of one system."""

    name: str
    columns: Mapping[str, tuple[str, ...]]
    """New name → the columns or paths that may hold the value; the first that has one counts."""
    marks: tuple[str, ...]
    """Columns of which a row of the system has at least one."""
    spread: tuple[str, ...] = ()
    """Objects whose members become columns, as the system's adapter hands them to a reward."""
    convert: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    """New name → what turns the value into rewardkit's; None leaves the column out."""

    def apply(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a row with rewardkit's columns. A column that has its new name already stays.

        Args:
            row: The row.
        """
        new: dict[str, Any] = {}
        moved = set()
        for name, paths in self.columns.items():
            if name in row or (name == "gym_reward" and row.get("reward_id") is not None):
                continue
            for path in paths:
                value = value_at(row, path)
                if value is not None and name in self.convert:
                    value = self.convert[name](value)
                if value is not None:
                    new[name] = value
                    moved |= {path} if name in RENAMED else set()
                    break
        result = {name: value for name, value in row.items() if name not in moved} | new
        for path in self.spread:
            inner = value_at(row, path)
            if isinstance(inner, Mapping):
                result |= {name: item for name, item in inner.items() if name not in result}
        return result

    def types(self, types: Mapping[str, Any]) -> dict[str, Any]:
        """Return the Arrow types of the columns of `apply`; columns of unknown type are left out.

        Args:
            types: The type of each column of the file.
        """
        new: dict[str, Any] = {}
        moved = set()
        for name, paths in self.columns.items():
            found = [path for path in paths if type_at(types, path) is not None]
            if name in types or not found:
                continue
            if len(found) == 1 and name not in self.convert:
                new[name] = type_at(types, found[0])
            moved |= set(found) if name in RENAMED else set()
        return {name: kind for name, kind in types.items() if name not in moved} | new


def _responses_messages(output: Any) -> Any:
    """Return the output items of OpenAI's Responses API as chat messages: a message, or a tool's output."""
    if not isinstance(output, list) or not all(isinstance(item, Mapping) for item in output):
        return output
    return [
        {"role": item.get("role") or "tool", "content": item.get("content") or item.get("output") or ""}
        for item in output
    ]


def _responses_end(response: Any) -> str | None:
    """Return why a response of OpenAI's Responses API ended."""
    cut = value_at(response, "incomplete_details.reason") if isinstance(response, Mapping) else None
    if cut == "max_output_tokens":
        return "length"
    return "stop" if value_at(response, "status") == "completed" else None


def _end(reason: Any) -> str | None:
    """Return a reason for the end of a completion in rewardkit's words; None if it is another."""
    words = {"stop": "stop", "tool_calls": "stop", "length": "length", "max_tokens": "length", "model_length": "length"}
    return words.get(reason) if isinstance(reason, str) else None


def _target(target: Any) -> Any:
    """Return Inspect's target as its scorers see it: several are joined."""
    return "".join(map(str, target)) if isinstance(target, list) else target


def _golds(doc: Any) -> Any:
    """Return the right answers of a document of lighteval: a text if there is one, else a list."""
    choices, index = doc.get("choices"), doc.get("gold_index")
    numbers = index if isinstance(index, list) else [index]
    if not isinstance(choices, list) or not all(isinstance(n, int) and 0 <= n < len(choices) for n in numbers):
        return None
    golds = [choices[number] for number in numbers]
    return golds[0] if len(golds) == 1 else golds


PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            "verl",
            {
                "prompt": ("input",),
                "completion": ("responses", "response", "output"),
                "answer": ("reward_model.ground_truth", "gts"),
            },
            marks=("reward_model", "data_source", "extra_info", "gts"),
            spread=("extra_info",),
        ),
        Preset(
            "trl",
            {"completion": ("completions",), "answer": ("solution", "ground_truth")},
            marks=("prompt", "completion", "completions", "messages"),
        ),
        Preset(
            "openinstruct",
            {
                "completion": ("response", "responses", "output", "outputs"),
                "answer": ("ground_truth",),
                "data_source": ("dataset",),
            },
            marks=("messages", "ground_truth", "dataset"),
        ),
        Preset(
            "gym",
            {
                "prompt": ("responses_create_params.input",),
                "completion": ("response.output",),
                "answer": ("expected_answer", "ground_truth", "verifier_metadata.expected_answer"),
                "num_tokens": ("response.usage.output_tokens",),
                "finish_reason": ("response",),
                "gym_reward": ("reward",),
            },
            marks=("responses_create_params",),
            convert={"completion": _responses_messages, "finish_reason": _responses_end},
        ),
        Preset(
            "skyrl",
            {
                "prompt": ("input_prompt",),
                "completion": ("response", "responses", "output_response"),
                "answer": ("reward_spec.ground_truth", "env_extras.reward_spec.ground_truth"),
                "finish_reason": ("stop_reason",),
            },
            marks=("reward_spec", "env_class", "env_extras"),
            spread=("env_extras",),
            convert={"finish_reason": _end},
        ),
        Preset(
            "inspect",
            {
                "prompt": ("input",),
                "completion": ("output.completion", "output"),
                "answer": ("target",),
                "num_tokens": ("output.usage.output_tokens",),
                "finish_reason": ("output.choices.0.stop_reason",),
            },
            marks=("input", "target"),
            spread=("metadata",),
            convert={"answer": _target, "finish_reason": _end},
        ),
        Preset(
            "lighteval",
            {"prompt": ("doc.query",), "completion": ("model_response.text",), "answer": ("doc",)},
            marks=("doc", "model_response"),
            spread=("doc.specific",),
            convert={"answer": _golds},
        ),
    )
}
"""Every preset by its name."""


def preset_named(name: str) -> Preset:
    """Return a preset.

    Args:
        name: Its name, without the ``@``; hyphens don't count.

    Raises:
        UsageError: There is none of this name.
    """
    known = PRESETS.get(name.replace("-", "").replace("_", "").lower())
    if known is None:
        names = ", ".join(f"@{known}" for known in PRESETS)
        raise UsageError(f"--map @{name}: there is no such preset; there are {names}{suggestion(name, PRESETS)}")
    return known
