"""A composite reward in verl's reward loop: a reward manager, or a function where verl's own manager must stay.

    reward.reward_manager.source=importlib
    reward.reward_manager.name=RewardkitRewardManager
    reward.reward_manager.module.path=pkg://rewardkit.integrations.verl
    +reward.reward_kwargs.file=/path/to/reward.yaml

A rollout that could not be scored ends the run. ``unscored=NUMBER`` trains it with that number, marked in ``rewardkit/unscored``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from rewardkit.composite import CompositeReward
from rewardkit.errors import UsageError
from rewardkit.integrations import common
from rewardkit.types import Rollout

try:
    from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase
except ImportError:
    RewardManagerBase = object

Prepared = tuple[CompositeReward, common.UnscoredShare, Callable[[str], int] | None]
NOT_COLUMNS = frozenset(
    {"raw_prompt", "extra_info", "tool_extra_fields", "multi_modal_data", "reward_scores", "__num_turns__"}
)


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: dict[str, Any] | None = None,
    *,
    file: str,
    reference: str | None = None,
    unscored: str | float = "fail",
    tokenizer: str | None = None,
    **_: Any,
) -> dict[str, Any]:
    """Score one response, as ``reward.custom_reward_function`` with ``reward_kwargs: {file: reward.yaml}``.

    It is not told tokens, finish reason and prompt: rewards that need them need the reward manager.

    Args:
        data_source: A column of the row.
        solution_str: The response.
        ground_truth: The value of the column ``reference``; an object is several columns.
        extra_info: Further columns of the row.
        file: The reward file.
        reference: The column that ``ground_truth`` stands for; by default the only one that the reward reads.
        unscored: ``"fail"``, or the number that a rollout without a score is trained with.
        tokenizer: The name or folder of the tokenizer that counts the tokens of responses.

    Returns:
        ``score``, ``rewardkit/unscored`` and each component's value (NaN if it has none): the same keys for every row.
    """
    prepared = _prepared(file, knows_tokens=False, tokenizer=tokenizer)
    others = {**(extra_info or {}), "data_source": data_source}
    fields = common.row_fields(prepared[0], ground_truth, reference, "verl's row", others)
    tokens = prepared[2] and prepared[2](solution_str)
    return await _score(prepared, Rollout("", solution_str, fields, num_tokens=tokens), unscored)


class RewardkitRewardManager(RewardManagerBase):  # type: ignore[misc]  # Any where verl is not installed
    """verl's reward manager, which knows tokens, finish reason and prompt. ``reward_kwargs`` are file, reference and unscored."""

    def __init__(self, config: Any, tokenizer: Any, compute_score: Any = None, **_: Any) -> None:
        self._options = {"reference": None, "unscored": "fail", **(config["reward"].get("reward_kwargs") or {})}
        if "file" not in self._options:
            raise UsageError("set reward.reward_kwargs.file to the path of the reward file")
        self._prepared = _prepared(str(self._options["file"]), knows_tokens=True)
        self._max_tokens = (config.get("data") or {}).get("max_response_length")
        common.refuse_unlimited(self._prepared[0], self._max_tokens, "data.max_response_length in verl's configuration")
        super().__init__(config, tokenizer, compute_score)

    async def run_single(self, data: Any) -> dict[str, Any]:
        """Score the last sequence of a sample, as verl asks for it."""
        item = data[-1:][0]
        ids, cells = item.batch["responses"], item.non_tensor_batch
        count = int(item.batch["attention_mask"][-ids.shape[-1] :].sum())
        decode = functools.partial(self.tokenizer.decode, ids[:count], skip_special_tokens=True)
        text = await self.loop.run_in_executor(None, decode)
        ended = count > 0 and int(ids[count - 1]) == self.tokenizer.eos_token_id
        others = {**(cells.get("extra_info") or {}), **{k: v for k, v in cells.items() if k not in NOT_COLUMNS}}
        truth, column = cells["reward_model"]["ground_truth"], self._options["reference"]
        fields = common.row_fields(self._prepared[0], truth, column, "verl's row", others)
        reason = "stop" if ended else "length" if self._max_tokens and count >= self._max_tokens else None
        rollout = Rollout(common.plain(cells.get("raw_prompt", "")), text, fields, None, count, reason)
        found = await _score(self._prepared, rollout, self._options["unscored"])
        return {"reward_score": found["score"], "reward_extra_info": found}


@functools.lru_cache(maxsize=64)
def _prepared(file: str, *, knows_tokens: bool, tokenizer: str | None = None) -> Prepared:
    reward = common.shared_reward(file)
    common.refuse_groups(reward, "verl's reward loop")
    common.refuse_schedules(reward, "verl's reward loop")
    if not knows_tokens:
        common.refuse_unknown(reward, "verl's reward function", tokenizer)
    return reward, common.UnscoredShare(), None if tokenizer is None else common.token_counter(tokenizer)


async def _score(prepared: Prepared, rollout: Rollout, unscored: str | float) -> dict[str, Any]:
    reward, share, _ = prepared
    item = await reward.ascore(rollout)
    if (score := item.reward) is None and item.unscored is not None:
        if unscored == "fail":
            raise common.NotScoredError(item.unscored)
        score = float(unscored)
    share.add([item], reward)
    values = {name: common.component_value(item, name) for name in item.outcomes}
    numbers = {f"rewardkit/{name}": math.nan if value is None else value for name, value in values.items()}
    return {"score": score, "rewardkit/unscored": float(item.unscored is not None), **numbers}
