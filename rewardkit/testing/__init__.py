"""Test classes that a plugin inherits to test its rewards, rollout engines and documentation with pytest.

::

    from rewardkit import Rollout
    from rewardkit.testing import RewardContract

    class TestPalindrome(RewardContract):
        reward = "palindrome"
        good = [Rollout("Say a palindrome.", "Never odd or even")]
        bad = [Rollout("Say a palindrome.", "I can't.")]
"""

from __future__ import annotations

from rewardkit.testing.contract import ContractBrokenError, RewardContract
from rewardkit.testing.docs import DocsContract
from rewardkit.testing.engine_contract import RolloutEngineContract
from rewardkit.testing.hostile import hostile_rollouts

__all__ = ["ContractBrokenError", "DocsContract", "RewardContract", "RolloutEngineContract", "hostile_rollouts"]
