"""Whose reward function a user's function is, as the names of its parameters tell, and its settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

Style: TypeAlias = Literal["auto", "rewardkit", "trl", "verl", "openrlhf", "verifiers"]

_TRL_OWN = frozenset(
    {"prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric", "environments"}
)
_VERIFIERS_OWN = frozenset({"prompt", "completion", "answer", "state", "parser", "info", "task"})


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionParams:
    """The settings of a function under ``with``."""

    style: Style = field(
        default="auto", metadata={"doc": "Whose reward function it is; by default its parameters tell."}
    )
    reference: str = field(
        default="answer",
        metadata={
            "doc": "The column with the reference answer (ground_truth, labels, answer) of other libraries' functions."
        },
    )
    chat: bool = field(
        default=False,
        metadata={
            "doc": "Hand a function of TRL's style text as chat messages too, which functions for chat data sets expect."
        },
    )
    args: dict[str, Any] = field(default_factory=dict, metadata={"doc": "Further keyword arguments of the function."})


def style_of(names: Sequence[str], use: str) -> Style:
    """Return whose reward function has parameters of these names.

    Raises:
        ValueError: They tell of no library.
    """
    if names and names[0] in {"rollout", "rollouts"}:
        return "rewardkit"
    for style, tells in _TELLS.items():
        if tells & set(names):
            return style
    raise ValueError(
        f"{use}({', '.join(names)}) can't be recognised by its parameters: set 'style' to one of "
        f"{', '.join(get_args(Style)[1:])}"
    )


_TELLS: dict[Style, frozenset[str]] = {
    "verl": frozenset({"solution_str"}),
    "openrlhf": frozenset({"queries"}),
    "trl": frozenset({"completions"}),
    "verifiers": frozenset({"completion", "state"}),
}


def needed_columns(use: str, parameters: Mapping[str, bool] | None, params: FunctionParams) -> Iterable[str]:
    """Return the columns that a function reads, as far as its parameters tell."""
    if parameters is None:
        return ()
    style = style_of(list(parameters), use) if params.style == "auto" else params.style
    required = [name for name, optional in parameters.items() if not optional and name not in params.args]
    match style:
        case "trl":
            refuse_tokens(use, required, params)
            return [name for name in required if name not in _TRL_OWN]
        case "verifiers":
            reads = [name for name in required if name not in _VERIFIERS_OWN]
            return [*reads, *([params.reference] if "answer" in parameters else [])]
        case "verl" | "openrlhf":
            return [params.reference] if {"ground_truth", "labels"} & parameters.keys() else []
    return ()


def refuse_tokens(use: str, required: Sequence[str], params: FunctionParams) -> None:
    """Raise ValueError if a function of TRL's style can't do without the tokens of completions, which rollouts do not hold."""
    if "completion_ids" in required and "completion_ids" not in params.args:
        raise ValueError(
            f"{use} reads completion_ids, and rollouts hold texts, not tokens: use a reward of the plugin length instead"
        )
