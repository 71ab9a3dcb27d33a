"""The protocol of rollout engines."""

from rewardkit.rollout_engine import Completion, FinishReason, Request, RolloutEngine, Sampling

__all__ = ["Completion", "FinishReason", "Request", "RolloutEngine", "Sampling"]
