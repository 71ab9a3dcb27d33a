"""The base class of the parts of a comparison: the policy, the tier that was needed, and the methods that they call of each other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from rewardkit_math.errors import MathError, TooLarge, Undecided
from rewardkit_math.expr import Expr
from rewardkit_math.policy import Policy

TIERS = ("text", "rational", "normal form", "structure", "numeric", "symbolic")


class Part(ABC):
    """One comparison. `tier` is the deepest tier that it needed."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.depth = 0
        self._tier = 0

    @property
    def tier(self) -> str:
        """The name of the deepest tier that was needed so far."""
        return TIERS[self._tier]

    def at(self, tier: str) -> None:
        """Note that `tier` was needed."""
        self._tier = max(self._tier, TIERS.index(tier))

    def all_equal(self, pairs: list[tuple[Expr, Expr]]) -> bool:
        """Return whether every pair is equal; one different pair decides, even if others are undecided."""
        doubt: MathError | None = None
        for x, y in pairs:
            try:
                if not self.equal(x, y):
                    return False
            except (Undecided, TooLarge) as error:
                doubt = error
        if doubt is not None:
            raise doubt
        return True

    # ---- what the parts ask of one another

    @abstractmethod
    def equal(self, a: Expr, b: Expr) -> bool:
        """Return whether the prediction `a` and the reference `b` are the same answer."""

    @abstractmethod
    def value(self, a: Expr, b: Expr) -> bool:
        """Return whether two numbers or expressions are equal."""

    @abstractmethod
    def same_items(self, left: Sequence[Expr], right: Sequence[Expr], *, ordered: bool) -> bool:
        """Return whether two lists hold the same items."""

    @abstractmethod
    def real_sets(self, a: Expr, b: Expr) -> bool | None:
        """Compare two sides as subsets of the real line; None if they can't be."""
