"""Reward functions that are no plugins: ``use: ./my_rewards.py:accuracy`` or ``use: package.module:accuracy``.

A function may be written for rewardkit, TRL, verl, OpenRLHF or verifiers: the names of its parameters tell which. Reading a reward file
never imports it: its parameters are read from its source, and it runs in worker processes, which can be killed.
"""

from __future__ import annotations

import ast
import asyncio
import functools
import hashlib
import importlib
import importlib.machinery
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeAlias, get_args

from rewardkit.types import CallLimits, NotApplicable, RewardFunction, RewardType, Rollout, Score, Unscored

PATTERN = r"^[^:\s][^:]*:[A-Za-z_][A-Za-z0-9_.]*$"
"""Matches a ``use`` that names a function."""
TIMEOUT_S = 30.0
"""Seconds that a call may take by default."""
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


@dataclass(frozen=True, slots=True)
class FunctionSource:
    """A function that a reward file names, found without importing it."""

    target: str
    """``/absolute/file.py:name`` or ``package.module:name``, by which a worker process imports it."""
    version: str
    """A hash of its file."""
    parameters: Mapping[str, bool] | None
    """The function's parameters, and whether each has a default; None if the file has no plain ``def`` of this name."""
    is_async: bool = False
    """True if it is a plain ``async def``."""

    @classmethod
    def find(cls, use: str, folder: Path) -> FunctionSource:
        """Find the function that a ``use`` names.

        Args:
            use: ``file.py:name`` or ``package.module:name``.
            folder: What relative paths are relative to: the folder of the reward file.

        Raises:
            ValueError: There is no such file, module or function, or the file is not Python.
        """
        where, _, name = use.rpartition(":")
        file = (folder / where).resolve() if where.endswith(".py") else _module_file(where)
        if file is None or not file.is_file():
            missing = f"there is no file {folder / where}" if where.endswith(".py") else f"there is no module {where!r}"
            raise ValueError(f"{missing}, which 'use: {use}' names")
        content = file.read_bytes()
        try:
            tree = ast.parse(content)
        except (SyntaxError, ValueError) as error:
            raise ValueError(f"{file} is not Python: {error}") from None
        target = f"{file}:{name}" if where.endswith(".py") else use
        version = hashlib.blake2b(content, digest_size=8).hexdigest()
        is_async = any(
            isinstance(node, ast.AsyncFunctionDef) and node.name == name and not node.decorator_list
            for node in tree.body
        )
        return cls(target, version, _parameters(tree, name, file), is_async)


def is_function(use: str) -> bool:
    """Return True if a ``use`` names a function and not a plugin's reward."""
    return re.match(PATTERN, use) is not None


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


def function_type(use: str, source: FunctionSource) -> RewardType:
    """Return a function as a reward type that runs in worker processes. A coroutine function waits for many rollouts at a time.

    Args:
        use: What the reward file says.
        source: Where the function is.
    """
    return RewardType(
        name=use,
        params=FunctionParams,
        build=functools.partial(_build, source.target, is_async=source.is_async),
        needs=functools.partial(_needs, use, source.parameters),
        executor="process",
        timeout_s=TIMEOUT_S,
        limits=CallLimits() if source.is_async else None,
        doc="A function of yours.",
        origin=source.target,
    )


def _needs(use: str, parameters: Mapping[str, bool] | None, params: FunctionParams) -> Iterable[str]:
    """Return the columns that a function reads, as far as its parameters tell."""
    if parameters is None:
        return ()
    style = style_of(list(parameters), use) if params.style == "auto" else params.style
    required = [name for name, optional in parameters.items() if not optional and name not in params.args]
    match style:
        case "trl":
            _refuse_tokens(use, required, params)
            return [name for name in required if name not in _TRL_OWN]
        case "verifiers":
            reads = [name for name in required if name not in _VERIFIERS_OWN]
            return [*reads, *([params.reference] if "answer" in parameters else [])]
        case "verl" | "openrlhf":
            return [params.reference] if {"ground_truth", "labels"} & parameters.keys() else []
    return ()


def _refuse_tokens(use: str, required: Sequence[str], params: FunctionParams) -> None:
    """Raise ValueError if a function of TRL's style can't do without the tokens of completions, which rollouts do not hold."""
    if "completion_ids" in required and "completion_ids" not in params.args:
        raise ValueError(
            f"{use} reads completion_ids, and rollouts hold texts, not tokens: use a reward of the plugin length instead"
        )


def _build(target: str, params: FunctionParams, *, is_async: bool = False) -> RewardFunction:
    """Import a function, in a worker process, and return what calls it."""
    kind = AsyncFunctionCaller if is_async else FunctionCaller
    return kind(load(target), target, params)


def try_import(target: str, settings: Mapping[str, Any]) -> None:
    """Import a function and recognise its style, in a process that may be killed.

    Args:
        target: The function, as in `FunctionSource`.
        settings: The parameters of a component.

    Raises:
        ValueError: The function does not exist, can't be called, or its style is unknown.
    """
    FunctionCaller(load(target), target, FunctionParams(**settings))


def load(target: str) -> Callable[..., Any]:
    """Import a function.

    Raises:
        ValueError: It does not exist, or can't be called.
    """
    found = load_object(target)
    if not callable(found):
        where, _, name = target.rpartition(":")
        raise ValueError(f"{where} has no function {name!r}")  # noqa: TRY004 - like what is not there
    function: Callable[..., Any] = found
    return function


def load_object(target: str) -> Any:
    """Import what a module holds; None if it does not hold it.

    Args:
        target: ``/absolute/file.py:name`` or ``package.module:name``.

    Raises:
        ValueError: The file is not Python's.
    """
    where, _, name = target.rpartition(":")
    found: Any = load_module(where)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def load_module(where: str) -> ModuleType:
    """Import a module by its name, or by the path of its file, which ends in ``.py``.

    Raises:
        ValueError: The file is not Python's.
    """
    if not where.endswith(".py"):
        return importlib.import_module(where)
    key = f"_rewardkit_function_{hashlib.blake2b(where.encode(), digest_size=8).hexdigest()}"
    if key not in sys.modules:
        spec = importlib.util.spec_from_file_location(key, where)
        if spec is None or spec.loader is None:
            raise ValueError(f"{where} can't be imported")
        sys.modules[key] = importlib.util.module_from_spec(spec)
        sys.path.append(str(Path(where).parent))  # its own imports of neighbouring files
        try:
            spec.loader.exec_module(sys.modules[key])
        except BaseException:
            del sys.modules[key]
            raise
    return sys.modules[key]


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
            _refuse_tokens(target, [name for name, item in parameters.items() if item.default is item.empty], params)

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


def _module_file(name: str) -> Path | None:
    """Return the file of a module, without importing it or its packages."""
    path: Sequence[str] | None = None
    spec = None
    parts = name.split(".")
    for index in range(len(parts)):
        spec = importlib.machinery.PathFinder.find_spec(".".join(parts[: index + 1]), path)
        if spec is None:
            return None
        path = spec.submodule_search_locations
    return Path(spec.origin) if spec is not None and spec.origin and spec.origin.endswith(".py") else None


def _parameters(tree: ast.Module, name: str, file: Path) -> dict[str, bool] | None:
    """Return the parameters of a function defined in a module; None where the module makes the name otherwise.

    Raises:
        ValueError: Nothing in the module can make that name.
    """
    bound = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name == name:
                arguments = node.args
                ordered = [*arguments.posonlyargs, *arguments.args]
                first_optional = len(ordered) - len(arguments.defaults)
                found = {item.arg: index >= first_optional for index, item in enumerate(ordered)}
                found |= {
                    item.arg: default is not None
                    for item, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
                }
                return None if node.decorator_list else found
            bound.add(node.name)
    text = {item.id for item in ast.walk(tree) if isinstance(item, ast.Name)} | bound
    text |= {
        alias.asname or alias.name
        for item in ast.walk(tree)
        if isinstance(item, ast.ImportFrom)
        for alias in item.names
    }
    text |= {
        item.name for item in ast.walk(tree) if isinstance(item, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    }
    if name.partition(".")[0] not in text and "*" not in text:
        raise ValueError(f"{file} has no function {name!r}; it has {', '.join(sorted(bound)) or 'none'}")
    return None
