"""What the two kinds of reward models have in common when they are trained: rows, batches, and a report on the held-out rows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from rewardkit.train.config import RewardModelConfig
from rewardkit.train.models.dropout import switch_off_dropout
from rewardkit.train.models.reward_model import RewardModel
from rewardkit.train.trainer.supervised import SupervisedTask


class Report(Protocol):
    """An evaluation on the held-out rows."""

    def metrics(self) -> dict[str, float]:
        """Return the metrics for the log."""


Row = TypeVar("Row")
Scorer = TypeVar("Scorer", bound=RewardModel)
Found = TypeVar("Found", bound=Report)


class ScoredRowsTask(SupervisedTask, Generic[Row, Scorer, Found]):
    """Trains a reward model on rows, and reports on the held-out ones. The report is made once for the weights of a step."""

    name = "reward_model"

    def __init__(
        self,
        config: RewardModelConfig,
        scorer: Scorer,
        train: Sequence[Row],
        held_out: Sequence[Row],
        lengths: list[int],
    ) -> None:
        """Create the task.

        Args:
            config: The configuration.
            scorer: The model that is trained.
            train: The training rows.
            held_out: The held-out rows.
            lengths: The number of tokens of each training row.
        """
        self.config = config
        self.scorer = scorer
        self.train = train
        self.held_out = held_out
        self.batch: list[Row] = []
        self._lengths = lengths
        self._report: Found | None = None
        if not config.dropout:
            switch_off_dropout(scorer.model)

    @property
    def model(self) -> Scorer:
        """The model that is trained."""
        return self.scorer

    @property
    def lengths(self) -> list[int]:
        """The number of tokens of each training row."""
        return self._lengths

    def set_batch(self, rows: Sequence[int]) -> None:
        """Set the rows of the next step."""
        self.batch = [self.train[row] for row in rows]
        self._report = None

    def evaluate(self) -> dict[str, float]:
        """Return the metrics of the held-out rows."""
        return self.report().metrics() if self.held_out else {}

    def report(self) -> Found:
        """Return the report on the held-out rows."""
        if self._report is None:
            self._report = self.make_report()
        return self._report

    @abstractmethod
    def make_report(self) -> Found:
        """Evaluate the model as it is now."""
