"""The hooks that plugins can implement.

A distribution is a plugin if it has an entry point in the group ``rewardkit``::

    [project.entry-points.rewardkit]
    palindrome = "rewardkit_palindrome"

Functions and classes of that module that are decorated with ``@rewardkit.reward`` are registered without a hook. To use one of the
hooks below, define a function of that name and decorate it with ``@rewardkit.hookimpl``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import pluggy

from rewardkit.cheat import Cheat
from rewardkit.monitor import Monitor
from rewardkit.rollout_engine import RolloutEngineType
from rewardkit.types import Finding, RewardType, ScoredRollout, SpanWeights

if TYPE_CHECKING:
    import click

PROJECT = "rewardkit"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_rewards() -> Iterable[RewardType]:  # type: ignore[empty-body]
    """Register reward types that are created at run time rather than by decorating a function.

    Returns:
        The reward types, each with a unique name.
    """


@hookspec
def register_rollout_engines() -> Iterable[RolloutEngineType]:  # type: ignore[empty-body]
    """Register rollout engines, which a training configuration names under ``rollout.engine``.

    ``rewardkit.rollout_engine`` defines their interface. The names ``hf`` and ``vllm`` belong to the core: a plugin that uses one of
    them clashes with it.

    Returns:
        The engine types, each with a unique name.
    """


@hookspec
def register_commands() -> Iterable[click.Command]:  # type: ignore[empty-body]
    """Register further commands of the ``rewardkit`` command line.

    Returns:
        click commands or groups, called by their names. A command of the core can't be replaced.
    """


@hookspec
def register_span_weights() -> Mapping[str, SpanWeights]:  # type: ignore[empty-body]
    """Register functions that weight parts of a response in supervised fine-tuning: ``loss.weights: [{use: NAME}]``.

    Returns:
        The functions by name. Each takes a row and the text of its response, and returns spans of the text as (begin, end, weight),
        in characters. Where spans overlap, the last one counts; text outside of all spans keeps its weight.
    """


@hookspec
def register_cheats() -> Iterable[Cheat]:  # type: ignore[empty-body]
    """Register cheats that ``rewardkit audit`` tries on a reward.

    Returns:
        The cheats. Each makes completions that do not solve the task of a row.
    """


@hookspec
def register_monitors() -> Iterable[Monitor]:  # type: ignore[empty-body]
    """Register monitors of reinforcement learning: bounds on metrics whose violation raises an alarm.

    A training configuration sets their bounds under ``monitors.plugins``; a bound of null switches a monitor off.

    Returns:
        The monitors, each with a unique name that is not the name of a built-in monitor.
    """


@hookspec
def rollouts_scored(rollouts: Sequence[ScoredRollout], step: int) -> None:
    """Observe a batch of scored rollouts, for example to log them. The hook can't change them.

    Args:
        rollouts: One batch, in the order of its rows.
        step: The training step at which the weights were evaluated; 0 for ``rewardkit score`` unless ``--step`` is given.
    """


@hookspec
def training_step_finished(step: int, metrics: Mapping[str, float], rollouts: Sequence[ScoredRollout]) -> None:
    """Observe a finished training step, for example to log its metrics to another service. The hook can't change the run.

    In distributed training only the main process calls it. If it raises, a warning names the plugin once, and training continues.

    Args:
        step: The number of finished steps.
        metrics: The metrics of the step by name, as in ``metrics.jsonl``.
        rollouts: The scored rollouts of the step, group by group; empty in stages that sample nothing.
    """


@hookspec
def diagnose() -> Iterable[Finding]:  # type: ignore[empty-body]
    """Check for ``rewardkit doctor`` whether everything that the plugin needs is installed on this machine and works.

    It may take seconds, and may be a generator. An exception is reported as a problem of the plugin.

    Returns:
        The findings, in the order in which they are shown.
    """
