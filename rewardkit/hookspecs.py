"""The whole contract between rewardkit and its plugins.

A distribution takes part through an entry point in the group ``rewardkit``::

    [project.entry-points.rewardkit]
    palindrome = "rewardkit_palindrome"

Functions and classes decorated with ``@rewardkit.reward`` in the named module are found by themselves. The hooks below are
for who needs more; mark an implementation with ``@rewardkit.hookimpl``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import pluggy

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
    """Offer rewards that are made at run time, rather than by decorating a function.

    Returns:
        The reward types, each with a name of its own.
    """


@hookspec
def register_rollout_engines() -> Iterable[RolloutEngineType]:  # type: ignore[empty-body]
    """Offer what samples completions in training, to be named under ``rollout.engine``.

    ``rewardkit.rollout_engine`` is the contract; an engine needs torch only once it is built. ``hf`` and ``vllm`` are the
    core's own names: a plugin that offers one of them clashes with it.

    Returns:
        The engine types, each with a name of its own.
    """


@hookspec
def register_commands() -> Iterable[click.Command]:  # type: ignore[empty-body]
    """Offer further verbs for the ``rewardkit`` command.

    Returns:
        click commands (or groups); the name of each becomes the verb. A verb of the core can't be replaced.
    """


@hookspec
def register_span_weights() -> Mapping[str, SpanWeights]:  # type: ignore[empty-body]
    """Offer functions that say how much parts of a response weigh in supervised fine-tuning: ``loss.weights: [{use: NAME}]``.

    Returns:
        By name, functions of a row and its response's text. Each gives spans of that text as (begin, end, weight), in characters;
        where spans overlap the last one counts, and text in none of them keeps its weight.
    """


@hookspec
def register_monitors() -> Iterable[Monitor]:  # type: ignore[empty-body]
    """Offer monitors of reinforcement learning: bounds on metrics whose violation raises an alarm.

    A training configuration changes their bounds under ``monitors.plugins``; a bound of null switches a monitor off.

    Returns:
        The monitors, each with its own name. A name of rewardkit's own monitors is refused.
    """


@hookspec
def rollouts_scored(rollouts: Sequence[ScoredRollout], step: int) -> None:
    """Look at rollouts that have just been scored, for instance to log them. Changes nothing.

    Args:
        rollouts: One batch, in the order in which it was handed in.
        step: The training step the weights were taken from; 0 when scoring offline.
    """


@hookspec
def training_step_finished(step: int, metrics: Mapping[str, float], rollouts: Sequence[ScoredRollout]) -> None:
    """Look at a training step that has just been written down, for instance to log it elsewhere. Changes nothing.

    Of several processes the first alone calls this. A plugin that raises is named once, and the run goes on.

    Args:
        step: How many steps are done.
        metrics: The step's figures by name, as in ``metrics.jsonl``.
        rollouts: What was sampled and scored for it, group by group; empty in stages that sample nothing.
    """


@hookspec
def diagnose() -> Iterable[Finding]:  # type: ignore[empty-body]
    """Tell what holds on this machine, for ``rewardkit doctor``: is what the plugin needs there, and does it work?

    It may take seconds, and may be a generator. What it raises is told as a problem under the plugin's name.

    Returns:
        The findings, in the order in which they are shown.
    """
