"""The parameters that all judges share, and how a reward class takes them beside its own."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from annotated_types import Ge, Gt

Structured: TypeAlias = Literal["auto", "on", "off"]
"""``on``: the endpoint is given the JSON Schema of the reply. ``auto``: until it refuses that."""
KEY = "OPENAI_API_KEY"
"""The environment variable that holds the key unless another is named."""

C = TypeVar("C", bound=type)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Which model is asked, where, how often, and within which limits.

    Args:
        model: The model's name at the endpoint.
        url: The address of an OpenAI-compatible endpoint, such as http://127.0.0.1:8000/v1.
        votes: Times that each question is asked, with different seeds. The score is the mean; with more than one, set a temperature.
        temperature: The sampling temperature. Above 0, scores are not cached.
        max_tokens: The most tokens of a reply. A reply that is cut gives no score.
        structured: Give the endpoint the JSON Schema of the reply: on, off, or auto (until it refuses).
        prompt: A file that replaces the prompt.
        concurrency: The most calls at once, for all judges that use this endpoint.
        tries: Attempts per call. Network errors, time-outs and HTTP 429 and 5xx are tried again with growing pauses.
        request_timeout: Seconds that one attempt may take.
        api_key: The environment variable that holds the key. The key itself is never part of a configuration.
        version: Names the weights behind the model's name. With it, the cache keeps scores between runs.
        prices: Price of a million tokens (prompt, completion), for the metric judge_cost.
        extra: Further fields of the request.
        preflight: Ask the endpoint at the start of a run whether it is up and knows the model.
    """

    model: str
    url: str
    votes: Annotated[int, Ge(1)] = 1
    temperature: Annotated[float, Ge(0)] = 0.0
    max_tokens: Annotated[int, Gt(0)] = 1024
    structured: Structured = "auto"
    prompt: str | None = None
    concurrency: Annotated[int, Gt(0)] = 32
    tries: Annotated[int, Gt(0)] = 5
    request_timeout: Annotated[float, Gt(0)] = 120.0
    api_key: str = KEY
    version: str = ""
    prices: dict[Literal["prompt", "completion"], float] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    preflight: bool = True


@functools.cache
def _parameters() -> Mapping[str, inspect.Parameter]:
    """Return the options as keyword-only parameters."""
    hints = typing.get_type_hints(Options, include_extras=True)
    found = {}
    for item in dataclasses.fields(Options):
        default: Any = item.default
        if item.default_factory is not dataclasses.MISSING:
            default = item.default_factory()
        elif default is dataclasses.MISSING:
            default = inspect.Parameter.empty
        kind = inspect.Parameter.KEYWORD_ONLY
        found[item.name] = inspect.Parameter(item.name, kind, default=default, annotation=hints[item.name])
    return MappingProxyType(found)


def takes_options(target: C) -> C:
    """Let a reward class take the options as keyword arguments, beside its own ones.

    Its ``__init__`` gets an `Options` first. What ``@reward`` reads of the class, its signature and the descriptions of parameters, lists
    all of them.
    """
    own: Callable[..., None] = target.__init__  # type: ignore[misc]  # that of this very class
    shared = _parameters()

    @functools.wraps(own)
    def init(self: Any, **values: Any) -> None:
        options = Options(**{name: values.pop(name) for name in list(values) if name in shared})
        own(self, options, **values)

    itself, _, *others = inspect.signature(own, eval_str=True).parameters.values()
    parameters = [itself, *shared.values(), *others]
    init.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # read by inspect.signature
    init.__doc__ = Options.__doc__
    target.__init__ = init  # type: ignore[misc]
    return target
