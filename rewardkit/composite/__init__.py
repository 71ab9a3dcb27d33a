"""The engine: runs a composite's components on their executors and combines what they say."""

from rewardkit.composite.batch import group_of
from rewardkit.composite.cache import ScoreCache
from rewardkit.composite.engine import CompositeReward, load_reward

__all__ = ["CompositeReward", "ScoreCache", "group_of", "load_reward"]
