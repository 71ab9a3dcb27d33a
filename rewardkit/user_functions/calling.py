"""Calls users' functions in the style of the library that they were written for."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rewardkit.types import NotApplicable, Rollout, Score, Unscored
from rewardkit.user_functions.styles import FunctionParams, refuse_tokens, style_of


class FunctionCaller:
    """Calls a function in its own style.

    Args:
        function: The function.
        target: Its name, for messages.
        params: The settings.
        objects: Further arguments for functions of verifiers' style, such as the parser of a rubric.

    Raises:
        ValueError: The parameters do not tell the style.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        target: str,
        params: FunctionParams,
        objects: Mapping[str, Any] | None = None,
    ) -> None:
        self._objects = dict(objects or {})
        self._function = function
        self._params = params
        parameters = inspect.signature(function).parameters
        self._names = set(parameters)
        self._takes_all = any(item.kind is inspect.Parameter.VAR_KEYWORD for item in parameters.values())
        self._first = next(iter(parameters), "")
        self._style = style_of(list(parameters), target) if params.style == "auto" else params.style
        if self._style == "trl":
            refuse_tokens(target, [name for name, item in parameters.items() if item.default is item.empty], params)

    def __call__(self, rollouts: Sequence[Rollout], /) -> Sequence[Any]:
        """Score a batch."""
        results: list[Any] = []
        for call in self._calls(rollouts):
            result = self._call(call)
            results += self._read(asyncio.run(_awaited(result)) if inspect.isawaitable(result) else result)
        return results

    def _calls(self, rollouts: Sequence[Rollout]) -> list[Sequence[Rollout]]:
        """Return the rollouts of each call: all at once for functions of lists."""
        takes_lists = self._style in {"trl", "openrlhf"} or self._first == "rollouts"
        return [rollouts] if takes_lists else [[rollout] for rollout in rollouts]

    def _call(self, rollouts: Sequence[Rollout]) -> Any:
        """Call the function in its style. A coroutine function returns an awaitable."""
        match self._style:
            case "trl":
                return self._function(**self._trl(rollouts))
            case "openrlhf":
                return self._function(**self._openrlhf(rollouts))
            case "verl":
                return self._function(**self._verl(rollouts[0]))
            case "verifiers":
                return self._function(**self._verifiers(rollouts[0]))
        return self._function(rollouts if self._first == "rollouts" else rollouts[0], **self._params.args)

    def _read(self, result: Any) -> Sequence[Any]:
        """Return the results of one call."""
        match self._style:
            case "trl":
                return [
                    NotApplicable("the function returned None") if value is None else value for value in _many(result)
                ]
            case "openrlhf":
                return [_one(value) for value in _many(result)]
            case "verl" | "verifiers":
                return [_one(result)]
        if self._first != "rollouts":
            return [result]
        found: Sequence[Any] = result
        return found

    def _fitting(self, offered: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments that the function has a parameter for, and those that the reward file sets."""
        fit = {name: value for name, value in offered.items() if self._takes_all or name in self._names}
        return {**fit, **self._params.args}

    def _reference(self, rollout: Rollout) -> Any:
        return plain(rollout.fields.get(self._params.reference))

    def _trl(self, rollouts: Sequence[Rollout]) -> dict[str, Any]:
        names = dict.fromkeys(name for rollout in rollouts for name in rollout.fields)
        columns = {name: [plain(rollout.fields.get(name)) for rollout in rollouts] for name in names}
        own: dict[str, Any] = {
            "prompts": [self._text(rollout.prompt, "user") for rollout in rollouts],
            "completions": [self._text(rollout.completion, "assistant") for rollout in rollouts],
            "trainer_state": None,
            "log_extra": lambda _name, _values: None,
            "log_metric": lambda _name, _value: None,
        }
        return self._fitting({**columns, **own})

    def _text(self, text: Any, role: str) -> Any:
        return _messages(text, role) if self._params.chat else plain(text)

    def _verl(self, rollout: Rollout) -> dict[str, Any]:
        fields = plain(rollout.fields)
        own = {
            "data_source": fields.get("data_source", ""),
            "solution_str": rollout.completion_text,
            "ground_truth": self._reference(rollout),
            "extra_info": fields.get("extra_info") or fields,
        }
        return self._fitting(own)

    def _openrlhf(self, rollouts: Sequence[Rollout]) -> dict[str, Any]:
        own = {
            "queries": [rollout.prompt_text + rollout.completion_text for rollout in rollouts],
            "prompts": [rollout.prompt_text for rollout in rollouts],
            "labels": [self._reference(rollout) for rollout in rollouts],
        }
        return self._fitting(own)

    def _verifiers(self, rollout: Rollout) -> dict[str, Any]:
        own: dict[str, Any] = {
            "prompt": _messages(rollout.prompt, "user"),
            "completion": _messages(rollout.completion, "assistant"),
            "answer": self._reference(rollout),
            "info": plain(rollout.fields.get("info")) or {},
            "task": rollout.fields.get("task", "default"),
            "parser": None,
            **self._objects,
        }
        return self._fitting({**plain(rollout.fields), **own, "state": dict(own)})


class AsyncFunctionCaller(FunctionCaller):
    """Calls a coroutine function in its own style, for all rollouts of a batch at the same time."""

    async def __call__(self, rollouts: Sequence[Rollout], /) -> Sequence[Any]:  # type: ignore[override]
        """Score a batch."""
        results = await asyncio.gather(*(self._call(part) for part in self._calls(rollouts)))
        return [value for result in results for value in self._read(result)]


def plain(value: Any) -> Any:
    """Return dicts and lists that a function may change, from the read-only ones of a rollout."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _messages(text: Any, role: str) -> list[Any]:
    return [{"role": role, "content": text}] if isinstance(text, str) else plain(list(text))


async def _awaited(result: Any) -> Any:
    return await result


def _one(value: Any) -> Any:
    """Return the result of one rollout: a number, or a dict with ``score`` and further numbers."""
    if value is None:
        return Unscored("input", "the function returned None: it says nothing of this row")
    if not isinstance(value, Mapping):
        return value
    if "score" not in value:
        return Unscored("plugin", f"the function returned a dict without 'score': {', '.join(map(str, value))}")
    numbers = {
        str(name): float(item) for name, item in value.items() if name != "score" and isinstance(item, int | float)
    }
    if value["score"] is None:
        return _one(None)
    return Score(float(value["score"]), metrics=numbers or None)


def _many(value: Any) -> Sequence[Any]:
    """Return the results of a batch: a sequence, or a dict with ``rewards``."""
    if isinstance(value, Mapping):
        if "rewards" not in value:
            raise TypeError(f"the function returned a dict without 'rewards': {', '.join(map(str, value))}")
        value = value["rewards"]
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, int | float):  # OpenRLHF takes a number for a batch of one
        return [value]
    return list(value)
