"""A sequence classifier: loaded once, then run on batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rewardkit.reward_models import choose_padding_token, context_length, padded_batch
from rewardkit_reward_model.loading import (
    Source,
    choose_label,
    in_batches,
    kept_digits,
    load_classifier,
    load_tokenizer,
    log_odds,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


class Classifier:
    """A sequence classifier and its tokenizer: scores token sequences by the log-odds of a label, or by the only output."""

    def __init__(self, source: Source) -> None:
        """Load the model and its tokenizer.

        Args:
            source: The model and how it is loaded.

        Raises:
            ValueError: There is no such model, it can't pad, or it has several outputs and no label is given.
        """
        self.device = source.torch_device()
        self.tokenizer = load_tokenizer(source)
        self.model = load_classifier(source, "SequenceClassification")
        self.digits = kept_digits(self.model)
        self.config: Any = self.model.config
        self.label = choose_label(source, self.config)
        try:
            self.pad_id = choose_padding_token(self.model, self.tokenizer)
        except ValueError as error:
            raise ValueError(f"{source.model}: {error}") from None
        self.tokenizer.truncation_side = "left"  # the completion is at the end

    @property
    def context(self) -> int:
        """The number of tokens that the model can read."""
        return context_length(self.config, self.tokenizer)

    def scores(self, rows: Sequence[Sequence[int]], most_tokens: int) -> list[float]:
        """Return the score of each token sequence; equal sequences are read once.

        If memory runs out, batches are halved and the missing ones are repeated.

        Args:
            rows: The token sequences.
            most_tokens: The most tokens in a batch, padding included.

        Raises:
            RuntimeError: A single sequence does not fit into memory, or the device fails.
        """
        return in_batches([tuple(row) for row in rows], most_tokens, len, self._forward)

    def _forward(self, rows: Sequence[Sequence[int]]) -> list[float]:
        import torch

        ids, mask = padded_batch(rows, self.pad_id)
        with torch.inference_mode():
            logits = self.model(input_ids=ids.to(self.device), attention_mask=mask.to(self.device)).logits.float()
            return log_odds(logits, self.label).tolist()  # type: ignore[no-any-return,unused-ignore]
