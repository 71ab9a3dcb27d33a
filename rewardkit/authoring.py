"""The decorator ``@reward``, which turns a function or class into a reward type.

The keyword-only parameters of the function (of ``__init__`` for a class) are the parameters that a reward file sets under ``with``. Their
types, defaults and descriptions in the docstring become the JSON Schema. The registry finds decorated functions and classes.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import types
import typing
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Annotated, Any, TypeAlias, TypeVar, cast

from rewardkit.types import (
    CallLimits,
    Executor,
    RewardFunction,
    RewardResult,
    RewardType,
    Rollout,
    Scope,
    columns_named_by,
)

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
REWARD_TYPE_ATTRIBUTE = "__rewardkit_reward_type__"

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True, slots=True)
class _FieldNameMarker:
    """Marks a parameter whose value is the name of a column."""


FieldName: TypeAlias = Annotated[str, _FieldNameMarker()]
"""The type of a parameter that names a column. The reward then needs that column, as if it were in ``needs``."""


def reward(
    name: str,
    *,
    needs: Iterable[str] = (),
    may_be_empty: Iterable[str] = (),
    may_be_missing: Iterable[str] = (),
    needs_tokens: bool | Callable[[Any], bool] = False,
    needs_finish_reason: bool | Callable[[Any], bool] = False,
    scope: Scope = "rollout",
    executor: Executor | None = None,
    timeout_s: float | None = None,
    limits: CallLimits | Callable[[Any], CallLimits] | None = None,
    deterministic: bool = False,
    repeatable: bool = True,
    identity: Callable[[Any], str | None] | None = None,
    content: Callable[[Any, Rollout], Any] | None = None,
    check: Callable[[Any, Rollout], str | None] | None = None,
    describe: Callable[[Any, Rollout], str | None] | None = None,
    example: str = "",
) -> Callable[[_Decorated], _Decorated]:
    """Declare a function or class as a reward, which reward files name under ``use``.

    A function takes one ``Rollout`` (or, if its first parameter is called ``rollouts``, a sequence of them) and returns a number, a
    ``Score``, an ``Unscored`` or a ``NotApplicable`` for each. A class takes its parameters in ``__init__`` and a sequence of rollouts in
    ``__call__``. Both may be ``async``. The decorator returns the function or class unchanged.

    Args:
        name: The name in reward files, such as ``palindrome`` or ``family.member``.
        needs: The columns that the reward reads. Parameters of type ``FieldName`` add the columns that they name.
        may_be_empty: The parameters of type ``FieldName`` whose column may hold an empty text. In all other columns it is a missing value.
        may_be_missing: The parameters of type ``FieldName`` whose column may have no value in some rows.
        needs_tokens: True if the reward reads ``num_tokens``, or a function of the parameters that tells. A rollout without it is unscored.
        needs_finish_reason: True if the reward reads ``finish_reason``, or a function of the parameters that tells. A rollout without it is
            unscored.
        scope: ``"group"`` if the reward compares the rollouts of one prompt; it is then called with whole groups.
        executor: Where the reward runs: ``"inline"``, ``"process"``, ``"async"`` or ``"device"``. The default is ``"async"`` for coroutine
            functions and ``"inline"`` for others.
        timeout_s: The time limit per rollout in seconds, for the executors ``"process"`` and ``"async"``. None sets no limit.
        limits: The limits of a coroutine function's calls, or a function of the parameters that returns them: how many at once, rollouts
            per call, tries. A reward file may override them.
        deterministic: True if the same rollout always gets the same score. Scores are then cached, and equal rows of a batch are scored
            once.
        repeatable: False for a reward with a state or chance in it. Its contract tests do not ask for equal scores.
        identity: For deterministic rewards, a function of the parameters that returns as text what else determines the scores, such as
            the hash of a model, or None if that is unknown.
        content: For deterministic rewards, a function of the parameters and a rollout that returns as JSON data the part of the rollout
            that determines its score. The default is the whole row.
        check: A function of the parameters and a rollout that returns what is wrong with the row, or None. It must be fast.
        describe: A function of the parameters and a rollout that returns the kind of the row in a few words, or None. ``rewardkit check``
            counts the rows of each kind.
        example: A component in YAML for the documentation. The default is made from the required parameters.

    Returns:
        A decorator.

    Raises:
        TypeError: The signature can't be turned into parameters.
    """

    def decorate(target: _Decorated) -> _Decorated:
        signature_of = target.__init__ if inspect.isclass(target) else target
        params, field_params = params_from_signature(signature_of, f"reward {name!r}", target)
        if isinstance(needs, str):
            raise TypeError(f"reward {name!r}: needs must be a list of fields, as in [{needs!r}]")
        fixed_needs = tuple(needs)

        def all_needs(values: Any) -> Iterable[str]:
            yield from fixed_needs
            yield from columns_named_by(values, field_params)

        is_async = inspect.iscoroutinefunction(target.__call__ if inspect.isclass(target) else target)
        _refuse_mismatch(name, target, is_async, scope, executor, limits)
        reward_type = RewardType(
            name=name,
            params=params,
            build=_class_builder(target) if inspect.isclass(target) else _function_builder(target, is_async),
            needs=all_needs if field_params else fixed_needs,
            may_be_empty=tuple(may_be_empty),
            may_be_missing=tuple(may_be_missing),
            needs_tokens=needs_tokens,
            needs_finish_reason=needs_finish_reason,
            scope=scope,
            rowwise=not inspect.isclass(target) and next(iter(inspect.signature(target).parameters), "") != "rollouts",
            executor=executor or ("async" if is_async else "inline"),
            timeout_s=timeout_s,
            limits=limits,
            deterministic=deterministic,
            repeatable=repeatable,
            identity=identity,
            content=content,
            check=check,
            describe=describe,
            doc=_description(target),
            example=example,
            origin=f"{target.__module__}:{target.__qualname__}",
        )
        setattr(target, REWARD_TYPE_ATTRIBUTE, reward_type)
        return target

    return decorate


def reward_type_of(target: object) -> RewardType | None:
    """Return the reward type of a decorated function or class.

    Args:
        target: Any object.

    Returns:
        The reward type, or None if the object is not decorated with ``@reward``.
    """
    found = vars(target).get(REWARD_TYPE_ATTRIBUTE) if hasattr(target, "__dict__") else None
    return found if isinstance(found, RewardType) else None


class Rowwise:
    """A reward function made from a function of one rollout.

    Args:
        one: The function. The engine calls it directly, so that an exception costs only one rollout its score.
    """

    def __init__(self, one: Callable[[Rollout], RewardResult]) -> None:
        self.one = one

    def __call__(self, rollouts: Sequence[Rollout], /) -> list[RewardResult]:
        """Score the rollouts one by one."""
        return [self.one(rollout) for rollout in rollouts]


class AsyncRowwise:
    """A reward function made from a coroutine function of one rollout.

    Args:
        one: The coroutine function.
    """

    def __init__(self, one: Callable[[Rollout], Awaitable[RewardResult]]) -> None:
        self.one = one

    async def __call__(self, rollouts: Sequence[Rollout], /) -> list[RewardResult]:
        """Score the rollouts one after the other."""
        return [await self.one(rollout) for rollout in rollouts]


def _values(params: Any) -> dict[str, Any]:
    return {item.name: getattr(params, item.name) for item in dataclasses.fields(params)}


def _function_builder(function: Callable[..., Any], is_async: bool) -> Callable[[Any], RewardFunction]:
    first = next(iter(inspect.signature(function).parameters), "")

    def build(params: Any) -> RewardFunction:
        values = _values(params)
        bound = functools.partial(function, **values) if values else function
        if first == "rollouts":
            return cast("RewardFunction", bound)
        return AsyncRowwise(bound) if is_async else Rowwise(bound)

    return build


def _class_builder(cls: Callable[..., Any]) -> Callable[[Any], RewardFunction]:
    def build(params: Any) -> RewardFunction:
        return cast("RewardFunction", cls(**_values(params)))

    return build


def _refuse_mismatch(
    name: str, target: Any, is_async: bool, scope: Scope, executor: Executor | None, limits: object
) -> None:
    if is_async and executor not in {None, "async"}:
        raise TypeError(f"reward {name!r}: a coroutine function runs on executor 'async', not {executor!r}")
    if limits is not None and not is_async:
        raise TypeError(f"reward {name!r}: limits are of coroutine functions; write 'async def'")
    if inspect.isclass(target):
        return
    if executor == "async" and not is_async:
        raise TypeError(f"reward {name!r}: executor 'async' needs a coroutine function; write 'async def'")
    positional = [item for item in inspect.signature(target).parameters.values() if item.kind in _POSITIONAL]
    if not positional:
        raise TypeError(f"reward {name!r}: the first parameter must be the rollout")
    if scope == "group" and positional[0].name != "rollouts":
        raise TypeError(
            f"reward {name!r}: with scope 'group' the first parameter is the whole group; call it 'rollouts', not "
            f"{positional[0].name!r}"
        )


def params_from_signature(function: Any, label: str, target: Any) -> tuple[type[Any], tuple[str, ...]]:
    """Return a frozen dataclass of a function's keyword-only parameters, and the names of those that name columns.

    Args:
        function: The function whose signature is read: ``target`` itself, or its ``__init__`` if it is a class.
        label: What the function is, for messages, such as ``reward 'palindrome'``.
        target: The function or class whose docstring describes the parameters.

    Raises:
        TypeError: The signature can't be turned into parameters.
    """
    # Other annotations, such as that of the rollout, may refer to names imported under TYPE_CHECKING.
    own = {
        parameter.name: parameter.annotation
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and parameter.annotation is not inspect.Parameter.empty
    }
    try:
        hints = typing.get_type_hints(
            types.SimpleNamespace(__annotations__=own), getattr(function, "__globals__", None), include_extras=True
        )
    except NameError as error:
        raise TypeError(f"{label}: the annotation of a parameter can't be resolved: {error}") from error
    docs = _parameter_docs(target, function)
    fields: list[tuple[str, Any, Any]] = []
    field_params: list[str] = []
    positional = 0
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            positional += 1
            if parameter.kind in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL):
                if inspect.isclass(target) and function is object.__init__:
                    continue
                raise TypeError(f"{label}: *args and **kwargs can't be described to YAML; name each parameter")
            if positional > 1:
                raise TypeError(f"{label}: parameter {parameter.name!r} must be keyword-only; put a '*' before it")
            continue
        annotation = hints.get(parameter.name)
        if annotation is None:
            raise TypeError(f"{label}: parameter {parameter.name!r} needs a type annotation")
        if any(isinstance(mark, _FieldNameMarker) for mark in _annotations(annotation)):
            field_params.append(parameter.name)
        metadata = {"doc": docs.get(parameter.name, "")}
        default = parameter.default
        if default is inspect.Parameter.empty:
            spec = dataclasses.field(metadata=metadata)
        elif isinstance(default, list | dict | set):
            spec = dataclasses.field(default_factory=functools.partial(type(default), default), metadata=metadata)
        else:
            spec = dataclasses.field(default=default, metadata=metadata)
        fields.append((parameter.name, annotation, spec))
    class_name = (
        "".join(part.capitalize() for part in re.findall(r"[A-Za-z0-9]+", label.rsplit(" ", maxsplit=1)[-1])) + "Params"
    )
    params = dataclasses.make_dataclass(class_name, fields, frozen=True, kw_only=True)
    params.__module__ = getattr(target, "__module__", __name__)
    return params, tuple(field_params)


def _annotations(annotation: Any) -> Iterable[Any]:
    """Yield the metadata of ``Annotated``, and of the members of a union such as ``FieldName | None``."""
    yield from getattr(annotation, "__metadata__", ())
    for member in typing.get_args(annotation):
        yield from getattr(member, "__metadata__", ())


def _description(target: Any) -> str:
    """Return the docstring without its Google-style sections."""
    from docstring_parser import ParseError, parse

    text = inspect.getdoc(target) or ""
    try:
        parsed = parse(text)
    except ParseError:
        return text
    return "\n\n".join(part for part in (parsed.short_description, parsed.long_description) if part)


def _parameter_docs(*targets: Any) -> dict[str, str]:
    from docstring_parser import ParseError, parse

    docs: dict[str, str] = {}
    for target in targets:
        try:
            parsed = parse(inspect.getdoc(target) or "")
        except ParseError:
            continue
        docs.update({item.arg_name: " ".join((item.description or "").split()) for item in parsed.params})
    return docs
