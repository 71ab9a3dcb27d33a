"""The contract of a reward, one test per clause.

Each test looks at one clause and leaves the others to theirs: a plugin that breaks one fails one test, which says what was
expected, what came, and where to look. A test that can't be made because another clause is broken is skipped.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
import traceback
import unittest
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NoReturn, Self, cast

from rewardkit.authoring import reward_type_of
from rewardkit.composite.plugin_calls import to_outcome
from rewardkit.config.spec import Component, parse_config
from rewardkit.errors import ConfigError, PluginError
from rewardkit.registry import OfferedReward, Provenance, Registry
from rewardkit.testing.hostile import hostile_rollouts
from rewardkit.types import RewardResult, RewardType, Rollout, Score, Unscored

_UNKNOWN_PARAMETER = "surely_no_parameter_of_this_name"


class ContractBrokenError(AssertionError):
    """A reward does not keep the contract. The message names the clause."""


class RewardContract:
    """Inherit this as ``class TestMine(RewardContract)``, set the attributes, and pytest tests the reward.

    One class tests one reward with one set of parameters; write several classes for several sets.
    """

    reward: ClassVar[str | RewardType | Callable[..., Any]]
    """What is tested: the name of an installed reward (which tests the entry point as well), what ``@reward`` decorated, or
    a ``RewardType``."""
    params: ClassVar[Mapping[str, Any]] = {}
    """What would stand under ``with`` in YAML."""
    good: Sequence[Rollout]
    """Rollouts that deserve more than any of ``bad``; at least one. For a reward of scope ``"group"``, ``good`` and ``bad``
    together are one group."""
    bad: Sequence[Rollout]
    """Rollouts that deserve less; at least one."""

    # --- the clauses ---------------------------------------------------------------------------------------------------

    def test_it_is_found_and_takes_its_parameters(self) -> None:
        """The registry finds the reward, and YAML with these parameters is accepted."""
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
        # Whatever a plugin raises while it is built is what its author wants to read.
        except Exception as error:  # noqa: BLE001
            self._broken(clause, f"building it (and closing it again) raised {_quote(error)}")

    def test_it_refuses_unknown_parameters(self) -> None:
        """A misspelt parameter in YAML is an error and not passed over."""
        self._require_built()
        try:
            self._component({_UNKNOWN_PARAMETER: 1})
        except ConfigError:
            return
        self._broken(
            "it refuses unknown parameters",
            f"a parameter {_UNKNOWN_PARAMETER!r} was accepted, so a misspelt one would be passed over in silence; "
            "leave extra='allow' and **kwargs out of the parameters' class",
        )

    def test_an_empty_batch_gives_an_empty_list(self) -> None:
        """A batch of no rollouts is legal and gives no results."""
        self._require_built()
        if self._is_group:
            raise unittest.SkipTest("a reward of scope 'group' is never handed an empty group")
        clause = "an empty batch gives an empty list"
        try:
            results = self._score_once([])
        except Exception as error:  # noqa: BLE001 - see above
            self._broken(clause, f"for [] it raised {_quote(error)}")
        if not _is_list(results) or len(results):
            self._broken(clause, f"for [] it gave {results!r}")

    def test_it_gives_one_result_per_rollout(self) -> None:
        """As many results come back as rollouts went in."""
        self._require_built()
        rollouts = self._rollouts()
        clause = "it gives one result per rollout"
        for batch in [rollouts] if self._is_group else [rollouts, rollouts[:1]]:
            try:
                results = self._score_once(batch)
            except Exception as error:  # noqa: BLE001 - see above
                self._broken(clause, f"for good and bad it raised {_quote(error)}")
            if not _is_list(results):
                self._broken(clause, f"{len(batch)} rollouts gave a {type(results).__name__}, not a list")
            if len(results) != len(batch):
                self._broken(clause, f"{len(batch)} rollouts gave {len(results)} results")

    def test_results_are_finite_numbers(self) -> None:
        """A result is a finite number, a Score, or an Unscored; not NaN, None or text."""
        self._require_built()
        rollouts = self._rollouts()
        for rollout, result in zip(rollouts, self._results(rollouts), strict=True):
            if fault := _fault(result):
                self._broken("results are finite numbers", f"it {fault} for {_show(rollout)}")

    def test_it_is_repeatable(self) -> None:
        """The same rollouts get the same results again, from the same instance and from a fresh one."""
        self._require_built()
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
                self._broken("it is repeatable", f"{_show(rollout)} got {one!r} and, from a fresh instance, {two!r}")

    def test_a_result_does_not_depend_on_the_batch(self) -> None:
        """A rollout gets the same result alone, in company, and in another order; in a group, in another order."""
        self._require_repeatable()
        rollouts = self._rollouts()
        together = self._results(rollouts)
        clause = "a result does not depend on the batch"
        backwards = list(reversed(self._results(list(reversed(rollouts)))))
        for rollout, one, two in zip(rollouts, together, backwards, strict=True):
            if not _same(one, two):
                self._broken(
                    clause,
                    f"{_show(rollout)} got {one!r}, and {two!r} when the batch came in reverse order; results must stand "
                    "in the order of the rollouts"
                    + ("" if self._is_group else ", and each must depend on its own alone"),
                )
        if self._is_group:
            return
        for rollout, one in zip(rollouts, together, strict=True):
            alone = self._results([rollout])[0]
            if not _same(one, alone):
                self._broken(
                    clause,
                    f"{_show(rollout)} got {one!r} in a batch and {alone!r} alone; a reward that compares rollouts needs "
                    "scope='group'",
                )

    def test_hostile_text_never_raises(self) -> None:
        """Whatever a model may write gets a result; an exception would cost the rollout its score."""
        self._require_built()
        clause = "hostile text never raises"
        rollouts = self._rollouts()
        template = rollouts[0]
        with _Running(self._component()) as running:
            self._valid(running, rollouts)
            for name, rollout in hostile_rollouts(template):
                for batch in [[rollout], [template, rollout]] if self._is_group else [[rollout]]:
                    try:
                        results = running(batch)
                    except KeyboardInterrupt:
                        raise
                    # SystemExit and the panics of extensions too.
                    except BaseException as error:  # noqa: BLE001
                        self._broken(clause, f"{name} (a batch of {len(batch)}): it raised {_quote(error)}")
                    if _is_list(results) and len(results) == len(batch) and (fault := _fault(results[-1])):
                        self._broken(clause, f"{name} (a batch of {len(batch)}): it {fault}")

    def test_good_gets_more_than_bad(self) -> None:
        """Every good rollout gets a higher value than every bad one, and all are scored."""
        clause = "good gets more than bad"
        self._require_built()
        rollouts = self._rollouts()
        scored: list[tuple[Rollout, Score]] = []
        for rollout, result in zip(rollouts, self._results(rollouts), strict=True):
            if _fault(result):
                raise unittest.SkipTest("a result is no finite number: see that test")
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
        """It reads no column of the row but those that it declares, so that a missing one is told before a run."""
        self._require_repeatable()
        rollouts = self._rollouts()
        whole = self._results(rollouts)
        clause = "the fields it declares are enough"
        component = self._component()
        needs = component.offer.type.needed_fields(component.params)
        for rollout in rollouts:
            if missing := [field for field in needs if field not in rollout.fields]:
                self._broken(
                    clause, f"{_show(rollout)} lacks {missing}, which the reward declares; add it to this test"
                )
        declared = (
            f"it declares {list(needs) or 'none'}; name every field with needs= or annotate its parameter FieldName"
        )
        stripped = [replace(rollout, fields={field: rollout.fields[field] for field in needs}) for rollout in rollouts]
        try:
            results = self._score_once(stripped)
        except Exception as error:  # noqa: BLE001 - see above
            self._broken(clause, f"given those alone it raised {_quote(error)}\n{declared}")
        for rollout, one, two in zip(rollouts, whole, results, strict=True):
            if not _same(one, two):
                self._broken(clause, f"{_show(rollout)} got {one!r}, and {two!r} given those alone\n{declared}")

    def test_rows_that_it_calls_equal_get_equal_results(self) -> None:
        """Where it says by what it knows a row (``content``), nothing else of the row decides: one score may stand for several rows."""
        self._require_repeatable()
        component = self._component()
        content = component.offer.type.content
        if content is None:
            raise unittest.SkipTest("it does not say by what it knows a row")
        rollouts = self._rollouts()
        for rollout, result in zip(rollouts, self._results(rollouts), strict=True):
            others = [
                replace(rollout, prompt=f"{rollout.prompt_text}\n# And quickly!"),
                replace(rollout, completion=f"{rollout.completion_text}\n\nI hope that this helps."),
                replace(rollout, fields={**rollout.fields, "surely_no_column_of_this_name": 1}),
                replace(rollout, group="another", num_tokens=12_345, finish_reason="length"),
            ]
            known = content(component.params, rollout)
            for other in (each for each in others if content(component.params, each) == known):
                if not _same(result, again := self._results([other])[0]):
                    self._broken(
                        "rows that it calls equal get equal results",
                        f"{_show(rollout)} got {result!r}, and {again!r} with a change that its content does not show: {other!r}",
                    )

    def test_it_leaves_rollouts_alone(self) -> None:
        """Other rewards read the same rollouts: their fields and messages stay as they are."""
        self._require_built()
        rollouts = self._rollouts()
        self._results(rollouts)
        self._score_once(rollouts)
        for one, two in zip(self._rollouts(), rollouts, strict=True):
            if one != two:
                self._broken("it leaves rollouts alone", f"{_show(one)} was changed by scoring it, to {two!r}")

    # --- how it is done ------------------------------------------------------------------------------------------------

    def _broken(self, clause: str, what: str) -> NoReturn:
        raise ContractBrokenError(f"reward {self._name!r} breaks the contract, {clause!r}: {what}")

    @property
    def _target(self) -> object:
        # Not through the instance: a plain function would come back as a method.
        target = inspect.getattr_static(self, "reward", None)
        return target.__func__ if isinstance(target, staticmethod) else target

    @property
    def _type(self) -> RewardType | None:
        return self._target if isinstance(self._target, RewardType) else reward_type_of(self._target)

    @property
    def _name(self) -> str:
        return self._target if isinstance(self._target, str) else self._type.name if self._type else repr(self._target)

    def _component(self, extra: Mapping[str, Any] | None = None) -> Component:
        """The reward as YAML would make it. Raises PluginError or ConfigError."""
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
        component = {"use": self._name, "with": {**self.params, **(extra or {})}}
        text = json.dumps({"version": 1, "components": {"it": component}})
        config = parse_config(text, registry, f"params of {type(self).__name__}")
        return next(iter(config.composites.values())).components[0]

    @property
    def _is_group(self) -> bool:
        return self._component().offer.type.scope == "group"

    def _rollouts(self) -> list[Rollout]:
        """Good, then bad; copies, so that a reward that changes its rollouts disturbs no other test."""
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
            raise unittest.SkipTest("there are no rollouts to try: see the first test")
        try:
            with _Running(self._component()):
                pass
        except Exception as error:
            raise unittest.SkipTest("it can't be built: see that test") from error

    def _score_once(self, rollouts: Sequence[Rollout]) -> Any:
        with _Running(self._component()) as running:
            return running(rollouts)

    @staticmethod
    def _valid(running: _Running, rollouts: Sequence[Rollout]) -> Sequence[RewardResult]:
        """Results, where one per rollout came back; else the test is skipped."""
        # Copies again: a change made by the first call must not be seen by the second.
        rollouts = [replace(rollout, fields=copy.deepcopy(dict(rollout.fields))) for rollout in rollouts]
        try:
            results = running(rollouts)
        except Exception as error:
            raise unittest.SkipTest("it raises for good and bad: see that test") from error
        if not _is_list(results) or len(results) != len(rollouts):
            raise unittest.SkipTest("it does not give one result per rollout: see that test")
        return cast("Sequence[RewardResult]", results)

    def _results(self, rollouts: Sequence[Rollout]) -> Sequence[RewardResult]:
        with _Running(self._component()) as running:
            return self._valid(running, rollouts)

    def _require_repeatable(self) -> None:
        self._require_built()
        try:
            self.test_it_is_repeatable()
        except ContractBrokenError as error:
            raise unittest.SkipTest("it is not repeatable: see that test") from error


class _Running:
    """A built reward, called as the engine calls it, and closed at the end."""

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
        if self._loop is None:  # one loop for all calls: a client may belong to the loop that it was first used in
            self._loop = asyncio.Runner()
        return self._loop.run(_finish(result))


async def _finish(results: Awaitable[Any]) -> Any:
    return await results


def _is_list(results: object) -> bool:
    is_sized = hasattr(results, "__len__") and hasattr(results, "__iter__")  # a list, a tuple, an array
    return is_sized and not isinstance(results, str | bytes | Mapping)


def _fault(result: object) -> str:
    """What is wrong with a result, or an empty string."""
    outcome = to_outcome(result, "it")
    if not isinstance(outcome, Unscored):
        return ""
    is_its_own = isinstance(result, Unscored) and (result.kind, result.message) == (outcome.kind, outcome.message)
    return "" if is_its_own else outcome.message.removeprefix("it ")


def _same(one: object, two: object) -> bool:
    return one == two or repr(one) == repr(two)  # the second: NaN is another clause's


def _show(rollout: Rollout) -> str:
    text = rollout.completion_text
    return f"completion {text[:80]!r}" + ("…" if len(text) > 80 else "")


def _quote(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}: {str(error)[:300]}{where}"
