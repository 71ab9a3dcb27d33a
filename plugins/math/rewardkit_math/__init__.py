"""Decides whether a completion's final answer equals a reference answer."""

from rewardkit_math.verify import Verdict, verify

__all__ = ["Verdict", "verify"]
