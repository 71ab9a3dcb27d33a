"""The contract of a reward: a test class with one test for each requirement.

A plugin that breaks one requirement fails one test, whose message says what was expected, what happened and where. A test that
can't run because another requirement is broken is skipped.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
import traceback
import unittest
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NoReturn, Self, cast

from rewardkit.authoring import reward_type_of
from rewardkit.composite.plugin_calls import to_outcome
from rewardkit.config.reading import parse_config
from rewardkit.config.spec import Component
from rewardkit.errors import ConfigError, PluginError
from rewardkit.registry import OfferedReward, Provenance, Registry
from rewardkit.testing.hostile import hostile_rollouts
from rewardkit.types import RewardResult, RewardType, Rollout, Score, Unscored

_UNKNOWN_PARAMETER = "surely_no_parameter_of_this_name"


class ContractBrokenError(AssertionError):
    """A plugin breaks its contract. The message names the requirement."""


class RewardContract:
    """The tests of a reward. Inherit it as ``class TestMine(RewardContract)``, set the attributes, and run pytest.

    A class tests one reward with one set of parameters. Write a class for each set.
    """

    reward: ClassVar[str | RewardType | Callable[..., Any]]
    """The reward: the name of an installed reward (which also tests the entry point), a function or class decorated with
    ``@reward``, or a ``RewardType``."""
    params: ClassVar[Mapping[str, Any]] = {}
    """The parameters, as under ``with`` in a reward file."""
    good: Sequence[Rollout]
    """At least one rollout. Each must score higher than every rollout of ``bad``. For a reward of scope ``"group"``, ``good`` and
    ``bad`` together are one group."""
    bad: Sequence[Rollout]
    """At least one rollout. Each must score lower than every rollout of ``good``."""

    # --- requirements ---------------------------------------------------------------------------------------------------

    def test_it_is_found_and_takes_its_parameters(self) -> None:
        """The registry finds the reward, and a reward file with these parameters is valid."""
        clause = "it is found and takes its parameters"
        try:
            self._component()
        except (PluginError, ConfigError) as error:
            self._broken(clause, str(error))
        if not self.good or not self.bad:
            self._broken(clause, "this test class needs at least one rollout in good and one in bad")
        try:
            with _Running(self._component()):
                pass
        # The author of the plugin needs to see any exception of the build function.
        except Exception as error:  # noqa: BLE001
            self._broken(clause, f"building it (and closing it again) raised {_quote(error)}")

    def test_it_refuses_unknown_parameters(self) -> None:
        """A misspelt parameter in a reward file is an error, and is not ignored."""
        self._require_built()
        try:
            self._find_component({_UNKNOWN_PARAMETER: 1})
        except ConfigError:
            return
        self._broken(
            "it refuses unknown parameters",
            f"a parameter {_UNKNOWN_PARAMETER!r} was accepted, so a misspelt one would be ignored silently; "
            "leave extra='allow' and **kwargs out of the parameters' class",
        )

    def test_an_empty_batch_gives_an_empty_list(self) -> None:
        """An empty batch is valid and returns an empty list."""
        self._require_built()
        if self._is_group:
            raise unittest.SkipTest("a reward of scope 'group' is never called with an empty group")
        clause = "an empty batch gives an empty list"
        try:
            results = self._score_once([])
        except Exception as error:  # noqa: BLE001 - see above
            self._broken(clause, f"for [] it raised {_quote(error)}")
        if not _is_list(results) or len(results):
            self._broken(clause, f"for [] it returned {results!r}")

    def test_it_gives_one_result_per_rollout(self) -> None:
        """The number of results equals the number of rollouts."""
        self._require_built()
        rollouts = self._rollouts()
        clause = "it gives one result per rollout"
        for batch in [rollouts] if self._is_group else [rollouts, rollouts[:1]]:
            try:
                results = self._score_once(batch)
            except Exception as error:  # noqa: BLE001 - see above
                self._broken(clause, f"for good and bad it raised {_quote(error)}")
            if not _is_list(results):
                self._broken(clause, f"for {len(batch)} rollouts it returned a {type(results).__name__}, not a list")
            if len(results) != len(batch):
                self._broken(clause, f"for {len(batch)} rollouts it returned {len(results)} results")

    def test_results_are_finite_numbers(self) -> None:
        """A result is a finite number, a ``Score`` or an ``Unscored``, but not NaN, None or text."""
        self._require_built()
        rollouts = self._rollouts()
        for rollout, result in zip(rollouts, self._results(rollouts), strict=True):
            if fault := _fault(result):
                self._broken("results are finite numbers", f"it {fault} for {_show(rollout)}")

    def test_it_is_repeatable(self) -> None:
        """Scoring the same rollouts again gives the same results, with the same instance and with a new one."""
        self._require_built()
        self._skip_unless_repeatable()
        rollouts = self._rollouts()
        with _Running(self._component()) as running:
            first, again = self._valid(running, rollouts), self._valid(running, rollouts)
        for rollout, one, two in zip(rollouts, first, again, strict=True):
            if not _same(one, two):
                self._broken(
                    "it is repeatable", f"{_show(rollout)} got {one!r} and, from the same instance later, {two!r}"
                )
        for rollout, one, two in zip(rollouts, first, self._results(rollouts), strict=True):
            if not _same(one, two):
                self._broken("it is repeatable", f"{_show(rollout)} got {one!r} and, from a new instance, {two!r}")

    def test_a_result_does_not_depend_on_the_batch(self) -> None:
        """A rollout gets the same result alone, in a batch, and in another order. A group gets the same results in another order."""
        self._require_repeatable()
        rollouts = self._rollouts()
        together = self._results(rollouts)
        clause = "a result does not depend on the batch"
        backwards = list(reversed(self._results(list(reversed(rollouts)))))
        for rollout, one, two in zip(rollouts, together, backwards, strict=True):
            if not _same(one, two):
                self._broken(
                    clause,
                    f"{_show(rollout)} got {one!r}, and {two!r} with the batch in reverse order; results must be "
                    "in the order of the rollouts"
                    + ("" if self._is_group else ", and each must depend only on its own rollout"),
                )
        if self._is_group:
            return
        with _Running(self._component()) as running:
            for rollout, one in zip(rollouts, together, strict=True):
                alone = self._valid(running, [rollout])[0]
                if not _same(one, alone):
                    self._broken(
                        clause,
                        f"{_show(rollout)} got {one!r} in a batch and {alone!r} alone; a reward that compares rollouts needs "
                        "scope='group'",
                    )

    def test_hostile_text_never_raises(self) -> None:
        """Every completion that a model may write gets a result. An exception would leave the rollout unscored."""
        self._require_built()
        clause = "hostile text never raises"
        rollouts = self._rollouts()
        template = rollouts[0]
        with _Running(self._component()) as running:
            self._valid(running, rollouts)
            known = self._component().offer.type.needed_attributes(self._component().params)
            for name, rollout in hostile_rollouts(template):
                if any(getattr(rollout, attribute) is None for attribute in known):
                    continue  # the engine leaves such a rollout unscored
                for batch in [[rollout], [template, rollout]] if self._is_group else [[rollout]]:
                    try:
                        results = running(batch)
                    except KeyboardInterrupt:
                        raise
                    # This includes SystemExit and panics of extensions.
                    except BaseException as error:  # noqa: BLE001
                        self._broken(clause, f"{name} (a batch of {len(batch)}): it raised {_quote(error)}")
                    if _is_list(results) and len(results) == len(batch) and (fault := _fault(results[-1])):
                        self._broken(clause, f"{name} (a batch of {len(batch)}): it {fault}")

    def test_good_gets_more_than_bad(self) -> None:
        """Every rollout of ``good`` scores higher than every rollout of ``bad``, and all are scored."""
        clause = "good gets more than bad"
        self._require_built()
        rollouts = self._rollouts()
        scored: list[tuple[Rollout, Score]] = []
        for rollout, result in zip(rollouts, self._results(rollouts), strict=True):
            if _fault(result):
                raise unittest.SkipTest("a result is not a finite number: see test_results_are_finite_numbers")
            outcome = to_outcome(result, "it")
            if not isinstance(outcome, Score):
                self._broken(clause, f"{_show(rollout)} was not scored: {outcome!r}")
            scored.append((rollout, outcome))
        worst, worst_score = min(scored[: len(self.good)], key=lambda item: item[1].value)
        best, best_score = max(scored[len(self.good) :], key=lambda item: item[1].value)
        if not worst_score.value > best_score.value:
            self._broken(
                clause, f"the good {_show(worst)} got {worst_score!r}, and the bad {_show(best)} got {best_score!r}"
            )

    def test_the_fields_it_declares_are_enough(self) -> None:
        """The reward reads only what it declares: columns, tokens, finish reason. So what is missing is reported before a run."""
        self._require_repeatable()
        rollouts = self._rollouts()
        whole = self._results(rollouts)
        clause = "the fields it declares are enough"
        component = self._component()
        needs = component.offer.type.needed_fields(component.params)
        for rollout in rollouts:
            if missing := [field for field in needs if field not in rollout.fields]:
                self._broken(
                    clause,
                    f"{_show(rollout)} lacks {missing}, which the reward declares; add it to the rollouts of this test",
                )
        known = component.offer.type.needed_attributes(component.params)
        declared = (
            f"it declares {[*needs, *known] or 'none'}; name every field with needs= or annotate its parameter FieldName, and say "
            "needs_tokens=True or needs_finish_reason=True where it reads them"
        )
        stripped = [
            replace(
                rollout,
                fields={field: rollout.fields[field] for field in needs},
                num_tokens=rollout.num_tokens if "num_tokens" in known else None,
                finish_reason=rollout.finish_reason if "finish_reason" in known else None,
            )
            for rollout in rollouts
        ]
        try:
            results = self._score_once(stripped)
        except Exception as error:  # noqa: BLE001 - see above
            self._broken(clause, f"with only these fields it raised {_quote(error)}\n{declared}")
        for rollout, one, two in zip(rollouts, whole, results, strict=True):
            if not _same(one, two):
                self._broken(clause, f"{_show(rollout)} got {one!r}, and {two!r} with only these fields\n{declared}")

    def test_rows_that_it_calls_equal_get_equal_results(self) -> None:
        """If the reward type has a function ``content``, rollouts with equal content get equal results."""
        self._require_repeatable()
        component = self._component()
        content = component.offer.type.content
        if content is None:
            raise unittest.SkipTest("the reward type has no function content")
        rollouts = self._rollouts()
        for rollout, result in zip(rollouts, self._results(rollouts), strict=True):
            others = [
                replace(rollout, prompt=f"{rollout.prompt_text}\n# And quickly!"),
                replace(rollout, completion=f"{rollout.completion_text}\n\nI hope that this helps."),
                replace(rollout, fields={**rollout.fields, "surely_no_column_of_this_name": 1}),
                replace(rollout, group="another", num_tokens=12_345, finish_reason="length"),
            ]
            known = content(component.params, rollout)
            equal = [each for each in others if content(component.params, each) == known]
            for other, again in zip(equal, self._results(equal), strict=True):
                if not _same(result, again):
                    self._broken(
                        "rows that it calls equal get equal results",
                        f"{_show(rollout)} got {result!r}, and {again!r} for a rollout with equal content: {other!r}",
                    )

    def test_it_leaves_rollouts_alone(self) -> None:
        """Scoring does not change the rollouts, which other rewards read, too."""
        self._require_built()
        rollouts = self._rollouts()
        self._results(rollouts)
        self._score_once(rollouts)
        for one, two in zip(self._rollouts(), rollouts, strict=True):
            if one != two:
                self._broken("it leaves rollouts alone", f"{_show(one)} was changed by scoring it, to {two!r}")

    # --- implementation ------------------------------------------------------------------------------------------------

    def _broken(self, clause: str, what: str) -> NoReturn:
        raise ContractBrokenError(f"reward {self._name!r} breaks the contract, {clause!r}: {what}")

    @property
    def _target(self) -> object:
        # Attribute access through the instance would turn a function into a method.
        target = inspect.getattr_static(self, "reward", None)
        return target.__func__ if isinstance(target, staticmethod) else target

    @property
    def _type(self) -> RewardType | None:
        return self._target if isinstance(self._target, RewardType) else reward_type_of(self._target)

    @property
    def _name(self) -> str:
        return self._target if isinstance(self._target, str) else self._type.name if self._type else repr(self._target)

    @property
    def _known(self) -> _Known:
        """What is known of the reward with these parameters, so that no test repeats the work of another."""
        known: _Known | None = vars(type(self)).get("_known_of_class")
        if known is None or known.target is not self._target or known.params != self.params:
            known = _Known(self._target, dict(self.params))
            type(self)._known_of_class = known  # noqa: SLF001 - of this class
        return known

    _known_of_class: ClassVar[_Known | None] = None

    def _component(self) -> Component:
        """Return the component that a reward file would define. Raises PluginError or ConfigError."""
        known = self._known
        if known.component is None:
            known.component = self._find_component({})
        return known.component

    def _find_component(self, extra: Mapping[str, Any]) -> Component:
        if isinstance(self._target, str):
            registry = Registry.load()
        elif self._type is not None:
            provenance = Provenance(self._name, "this test", "0")
            registry = Registry(rewards={self._name: [OfferedReward(self._type, provenance)]}, plugins=[provenance])
        else:
            raise PluginError(
                f"set the attribute reward to an installed reward's name or to what @reward decorated, not {self._name}"
            )
        registry.get(self._name)
        component = {"use": self._name, "with": {**self.params, **extra}}
        text = json.dumps({"version": 1, "components": {"it": component}})
        config = parse_config(text, registry, f"params of {type(self).__name__}")
        return next(iter(config.composites.values())).components[0]

    @property
    def _is_group(self) -> bool:
        return self._component().offer.type.scope == "group"

    def _rollouts(self) -> list[Rollout]:
        """Return copies of the good rollouts, then of the bad ones, so that a reward that changes them affects no other test."""
        is_group = self._is_group
        return [
            replace(
                rollout,
                prompt=copy.deepcopy(rollout.prompt),
                completion=copy.deepcopy(rollout.completion),
                fields=copy.deepcopy(dict(rollout.fields)),
                group="contract" if is_group else rollout.group,
            )
            for rollout in (*self.good, *self.bad)
        ]

    def _require_built(self) -> None:
        if not self.good or not self.bad:
            raise unittest.SkipTest("good or bad is empty: see test_it_is_found_and_takes_its_parameters")
        if self._known.is_built:
            return
        try:
            with _Running(self._component()):
                pass
            self._known.is_built = True
        except Exception as error:
            raise unittest.SkipTest("it can't be built: see test_it_is_found_and_takes_its_parameters") from error

    def _score_once(self, rollouts: Sequence[Rollout]) -> Any:
        with _Running(self._component()) as running:
            return running(rollouts)

    @staticmethod
    def _valid(running: _Running, rollouts: Sequence[Rollout]) -> Sequence[RewardResult]:
        """Return the results if there is one per rollout. Otherwise skip the test."""
        # A second call must not see changes that the first one made.
        rollouts = [replace(rollout, fields=copy.deepcopy(dict(rollout.fields))) for rollout in rollouts]
        try:
            results = running(rollouts)
        except Exception as error:
            raise unittest.SkipTest("it raises an exception: see test_it_gives_one_result_per_rollout") from error
        if not _is_list(results) or len(results) != len(rollouts):
            raise unittest.SkipTest("the number of results is wrong: see test_it_gives_one_result_per_rollout")
        return cast("Sequence[RewardResult]", results)

    def _results(self, rollouts: Sequence[Rollout]) -> Sequence[RewardResult]:
        with _Running(self._component()) as running:
            return self._valid(running, rollouts)

    def _skip_unless_repeatable(self) -> None:
        if not self._component().offer.type.repeatable:
            raise unittest.SkipTest("the reward type says repeatable=False")

    def _require_repeatable(self) -> None:
        self._require_built()
        self._skip_unless_repeatable()
        try:
            self.test_it_is_repeatable()
        except ContractBrokenError as error:
            raise unittest.SkipTest("it is not repeatable: see test_it_is_repeatable") from error


@dataclass
class _Known:
    """What tests have found out about a reward with its parameters."""

    target: object
    params: Mapping[str, Any]
    component: Component | None = None
    is_built: bool = False
    is_repeatable: bool = False


class _Running:
    """A context manager that builds a reward, calls it as the engine does, and closes it."""

    def __init__(self, component: Component) -> None:
        self._function = component.offer.type.build(component.params)
        self._loop: asyncio.Runner | None = None

    def __enter__(self) -> Self:
        return self

    def __call__(self, rollouts: Sequence[Rollout]) -> Any:
        return self._wait(self._function(rollouts))

    def __exit__(self, *_exc: object) -> None:
        try:
            if callable(close := getattr(self._function, "close", None)):
                self._wait(close())
        finally:
            if self._loop is not None:
                self._loop.close()

    def _wait(self, result: Any) -> Any:
        if not inspect.isawaitable(result):
            return result
        if self._loop is None:  # All calls share a loop: an HTTP client belongs to the loop that first used it.
            self._loop = asyncio.Runner()
        return self._loop.run(_finish(result))


async def _finish(results: Awaitable[Any]) -> Any:
    return await results


def _is_list(results: object) -> bool:
    is_sized = hasattr(results, "__len__") and hasattr(results, "__iter__")  # A list, a tuple or an array.
    return is_sized and not isinstance(results, str | bytes | Mapping)


def _fault(result: object) -> str:
    """Return what is wrong with a result, or an empty string."""
    outcome = to_outcome(result, "it")
    if not isinstance(outcome, Unscored):
        return ""
    is_its_own = isinstance(result, Unscored) and (result.kind, result.message) == (outcome.kind, outcome.message)
    return "" if is_its_own else outcome.message.removeprefix("it ")


def _same(one: object, two: object) -> bool:
    return one == two or repr(one) == repr(two)  # Equal representations: NaN fails another test.


def _show(rollout: Rollout) -> str:
    text = rollout.completion_text
    return f"completion {text[:80]!r}" + ("…" if len(text) > 80 else "")


def _quote(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}: {str(error)[:300]}{where}"
