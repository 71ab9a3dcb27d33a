"""Translates each client's protocol to rollouts and back. Of HTTP it uses only status codes.

`/score` is rewardkit's own: it answers every row, with the kind of failure where there is no reward. The protocols of trainers have no
word for "not scored"; there a failure is an error (`UnansweredError`), so that the client tries again or stops, and is never a reward
of 0.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rewardkit.composite import CompositeReward
from rewardkit.config.paths import add_field_paths
from rewardkit.errors import DataError, RewardkitError
from rewardkit.integrations.common import completion_of, component_value, fields_of
from rewardkit.scoring.columns.columns import Columns
from rewardkit.scoring.columns.paths import RowError
from rewardkit.scoring.formats.decode import Decoded, decode, read_row
from rewardkit.scoring.formats.decode import write_row as to_json
from rewardkit.scoring.formats.encode import json_lines, score_columns
from rewardkit.scoring.formats.format import RawRow
from rewardkit.scoring.formats.readers import Chunk
from rewardkit.types import Rollout, Score, ScoredRollout, Unscored, outcome_status

REQUEST = "request"
"""The name of the source in messages about a row."""
MAX_PROBLEMS = 20
"""Unusable rows that an error names."""


class BadRequestError(RewardkitError):
    """A request that can't be answered. ``rows`` names the rows that can't be used."""

    def __init__(self, message: str, status: int = 422, rows: Sequence[tuple[int, str]] = ()) -> None:
        self.status = status
        self.rows = rows
        super().__init__(message)


class UnansweredError(RewardkitError):
    """A rollout could not be scored, in a protocol that has no word for that."""

    def __init__(self, unscored: Unscored) -> None:
        self.unscored = unscored
        super().__init__(f"not scored ({unscored.kind}): {unscored.message}")


@dataclass(frozen=True, slots=True)
class Batch:
    """The rollouts of a request to ``/score``, and how they are answered."""

    decoded: Decoded
    as_lines: bool

    @property
    def rollouts(self) -> Sequence[Rollout]:
        """The rollouts."""
        return self.decoded.rollouts

    def answer(self, reward: CompositeReward, scored: list[ScoredRollout]) -> bytes:
        """Return the body of the answer: lines as `rewardkit score` writes them, or one object.

        Raises:
            UnansweredError: The reward file says ``policy: fail`` and a row is unscored.
        """
        if reward.config.resolved["unscored"]["policy"] == "fail":
            _refuse_unscored(scored)
        if self.as_lines:
            places = [f"{REQUEST}:{source + 1}" for source in self.decoded.sources]
            return b"".join(json_lines(self.decoded, score_columns(scored, reward.config.component_names, places)))
        return encode({"reward_id": reward.reward_id, "results": [result_of(item) for item in scored]})


def parse_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a body.

    Raises:
        BadRequestError: It is none.
    """
    try:
        return read_row(body)[0]
    except RowError as error:
        raise BadRequestError(f"the body can't be read: {error}", 400) from None


def encode(value: Any) -> bytes:
    """Return a value as JSON."""
    return to_json(value).rstrip(b"\n")


def read_batch(body: bytes, reward: CompositeReward, *, as_lines: bool) -> Batch:
    """Return the rollouts of a body: ``{"rows": […]}``, or lines of JSON. A row is what a line of an input file is.

    Raises:
        BadRequestError: The body or a row can't be used.
    """
    rows: list[RawRow]
    if as_lines:
        rows = [line for line in body.split(b"\n") if line.strip()]
    else:
        found = parse_object(body).get("rows")
        if not isinstance(found, list):
            raise BadRequestError('the body must be an object with "rows", a list of objects')
        wrong = [(number, "is no object") for number, row in enumerate(found, 1) if not isinstance(row, dict)]
        if wrong:
            raise _unusable(wrong)
        rows = found
    count = len(rows)
    chunk = Chunk([REQUEST] * count, range(1, count + 1), rows, range(count), count)
    decoded = decode(chunk, Columns(), _paths(reward))
    if decoded.rejected:
        raise _unusable([(row.row, row.reason) for row in decoded.rejected])
    refuse_unrouted(reward, decoded.rollouts)
    return Batch(decoded, as_lines)


def refuse_unrouted(reward: CompositeReward, rollouts: Sequence[Rollout]) -> None:
    """Refuse rows that no route takes: scoring would fail for all rows at once.

    Raises:
        BadRequestError: No route takes a row.
    """
    if not reward.config.routes:
        return
    wrong = []
    for number, rollout in enumerate(rollouts, 1):
        try:
            reward.config.composite_for(rollout)
        except DataError as error:
            wrong.append((number, str(error)))
    if wrong:
        raise _unusable(wrong)


def result_of(item: ScoredRollout) -> dict[str, Any]:
    """Return the result of a row as JSON data."""
    components = {}
    for name, outcome in item.outcomes.items():
        part: dict[str, Any] = {
            "value": component_value(item, name),
            "weight": item.weights[name],
            "contribution": item.contributions[name],
            "status": outcome_status(outcome),
            "reason": outcome.message if isinstance(outcome, Unscored) else outcome.reason,
        }
        if isinstance(outcome, Unscored):
            part["kind"] = outcome.kind
        if isinstance(outcome, Score) and outcome.metrics:
            part["metrics"] = dict(outcome.metrics)
        components[name] = part
    unscored = None if item.unscored is None else {"kind": item.unscored.kind, "message": item.unscored.message}
    return {"reward": item.reward, "reward_status": item.status, "unscored": unscored, "components": components}


def read_openrlhf(
    body: bytes, reward: CompositeReward, column: str, count: Callable[[str], int] | None = None
) -> list[Rollout]:
    """Return the rollouts of OpenRLHF's ``{"query", "prompts", "labels"}``, lists of equal length.

    Raises:
        BadRequestError: The body can't be used.
    """
    data = parse_object(body)
    queries, prompts = data.get("query"), data.get("prompts")
    labels = data.get("labels")
    if labels is None and isinstance(queries, list):
        labels = [None] * len(queries)
    for name, value in (("query", queries), ("prompts", prompts)):
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise BadRequestError(f"{name!r} must be a list of strings")
    if not isinstance(labels, list) or not len(queries) == len(prompts) == len(labels):  # type: ignore[arg-type]
        raise BadRequestError("'query', 'prompts' and 'labels' must be lists of equal length")
    rollouts, wrong = [], []
    for number, (query, prompt, label) in enumerate(zip(queries, prompts, labels, strict=True), 1):  # type: ignore[arg-type]
        try:
            completion = completion_of(query, prompt)
            tokens = None if count is None else count(completion)
            rollouts.append(_rollout(reward, prompt, completion, fields_of(label, column), tokens))
        except DataError as error:
            wrong.append((number, str(error)))
    if wrong:
        raise _unusable(wrong)
    refuse_unrouted(reward, rollouts)
    return rollouts


def answer_openrlhf(scored: list[ScoredRollout]) -> bytes:
    """Return OpenRLHF's answer: rewards, and each component's values as logs where every row has one.

    Raises:
        UnansweredError: A rollout is unscored.
    """
    _refuse_unscored(scored)
    rewards = [item.reward for item in scored]
    logs: dict[str, list[float]] = {}
    for name in scored[0].outcomes if scored else ():
        values = [component_value(item, name) for item in scored]
        if all(value is not None for value in values):
            logs[name] = values  # type: ignore[assignment]  # as the line above found
    return encode({"rewards": rewards, "scores": rewards, "extra_logs": logs})


def read_slime(
    body: bytes, reward: CompositeReward, column: str, count: Callable[[str], int] | None = None
) -> list[Rollout]:
    """Return the rollout of slime's ``{"prompt", "response", "label"}``.

    Raises:
        BadRequestError: The body can't be used.
    """
    data = parse_object(body)
    prompt, response = data.get("prompt"), data.get("response")
    if not isinstance(response, str):
        raise BadRequestError("'response' must be a string")
    if not isinstance(prompt, str) and not _is_chat(prompt):
        raise BadRequestError("'prompt' must be a string or a list of chat messages")
    tokens = None if count is None else count(response)
    rollouts = [_rollout(reward, prompt, response, fields_of(data.get("label"), column), tokens)]
    refuse_unrouted(reward, rollouts)
    return rollouts


def answer_slime(scored: list[ScoredRollout]) -> bytes:
    """Return slime's answer, a number.

    Raises:
        UnansweredError: The rollout is unscored.
    """
    _refuse_unscored(scored)
    return encode(scored[0].reward)


def read_gym(body: bytes, reward: CompositeReward) -> tuple[dict[str, Any], list[Rollout]]:
    """Return the body of NeMo-Gym's ``/verify`` and its rollout: the input of the request, the output of the response, the row's fields.

    Raises:
        BadRequestError: The body can't be used.
    """
    data = parse_object(body)
    params, response = data.get("responses_create_params"), data.get("response")
    if not isinstance(params, dict) or not isinstance(response, dict):
        raise BadRequestError("'responses_create_params' and 'response' must be objects")
    prompt = params.get("input")
    if not isinstance(prompt, str) and not _is_chat(prompt):
        raise BadRequestError("'responses_create_params.input' must be a string or a list of messages")
    output = response.get("output")
    if not isinstance(output, list) or not all(isinstance(item, dict) for item in output):
        raise BadRequestError("'response.output' must be a list of objects")
    messages = [
        {"role": item.get("role", "tool"), "content": item.get("content", item.get("output", ""))} for item in output
    ]
    usage = response.get("usage")
    tokens = usage.get("output_tokens") if isinstance(usage, dict) else None
    cut = (
        isinstance(details := response.get("incomplete_details"), dict) and details.get("reason") == "max_output_tokens"
    )
    fields = {name: value for name, value in data.items() if name not in {"responses_create_params", "response"}}
    rollout = _rollout(
        reward,
        prompt,
        messages,
        fields,
        tokens if isinstance(tokens, int) and not isinstance(tokens, bool) else None,
        "length" if cut else "stop" if response.get("status") == "completed" else None,
    )
    refuse_unrouted(reward, [rollout])
    return data, [rollout]


def answer_gym(data: Mapping[str, Any], scored: list[ScoredRollout], *, mask: bool) -> bytes:
    """Return NeMo-Gym's answer: the request with ``reward`` and the components.

    Args:
        data: The body of the request.
        scored: Its rollout.
        mask: Answer an unscored rollout with ``mask_sample``, which current NeMo-Gym leaves out.

    Raises:
        UnansweredError: The rollout is unscored and ``mask`` is false.
    """
    item = scored[0]
    values = {name: value for name in item.outcomes if (value := component_value(item, name)) is not None}
    own: dict[str, Any] = {"reward": item.reward, "mask_sample": False, "reward_components": values}
    if item.unscored is not None and item.reward is None:
        if not mask:
            raise UnansweredError(item.unscored)
        reason = f"{item.unscored.kind}: {item.unscored.message}"
        own |= {"reward": 0.0, "mask_sample": True, "failure_reason": reason, "_ng_failure_class": "judge_failed"}
    return encode({**data, **{name: value for name, value in values.items() if name not in data}, **own})


def aggregate_gym(body: bytes) -> bytes:
    """Return NeMo-Gym's aggregate of verify answers: the mean reward of the unmasked ones, over all and per task.

    Raises:
        BadRequestError: The body can't be used.
    """
    responses = parse_object(body).get("verify_responses")
    if not isinstance(responses, list) or not all(isinstance(item, dict) for item in responses):
        raise BadRequestError("'verify_responses' must be a list of objects")
    tasks: dict[Any, list[float]] = {}
    masked = 0
    for number, item in enumerate(responses, 1):
        if item.get("mask_sample") is True:
            masked += 1
            continue
        reward, task = item.get("reward"), item.get("_ng_task_index", 0)
        if not isinstance(reward, int | float) or isinstance(reward, bool) or not isinstance(task, int | str):
            raise _unusable([(number, "has no number 'reward', or a '_ng_task_index' that is neither number nor text")])
        tasks.setdefault(task, []).append(float(reward))
    rewards = [value for values in tasks.values() for value in values]
    overall = {"mean/reward": sum(rewards) / len(rewards)} if rewards else {}
    groups = [{"_ng_task_index": task, "mean/reward": sum(values) / len(values)} for task, values in tasks.items()]
    agent_metrics = {**overall, "masked": masked, "scored": len(rewards)}
    return encode({"group_level_metrics": groups, "agent_metrics": agent_metrics, "key_metrics": overall})


def _rollout(
    reward: CompositeReward,
    prompt: Any,
    completion: Any,
    fields: dict[str, Any],
    num_tokens: int | None = None,
    finish_reason: str | None = None,
) -> Rollout:
    add_field_paths(fields, _paths(reward))
    return Rollout(prompt, completion, fields, num_tokens=num_tokens, finish_reason=finish_reason)


@functools.lru_cache(maxsize=16)
def _paths(reward: CompositeReward) -> tuple[str, ...]:
    return reward.config.field_paths


def _is_chat(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) and "role" in item for item in value)


def _refuse_unscored(scored: Sequence[ScoredRollout]) -> None:
    for item in scored:
        if item.unscored is not None and item.reward is None:
            raise UnansweredError(item.unscored)


def _unusable(rows: Sequence[tuple[int, str]]) -> BadRequestError:
    number, reason = rows[0]
    more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
    return BadRequestError(f"row {number}: {reason}{more}; nothing was scored", rows=rows[:MAX_PROBLEMS])
