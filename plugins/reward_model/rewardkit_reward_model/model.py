"""A sequence classifier: loaded once, then run on batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rewardkit.reward_models import choose_padding_token, context_length, padded_batch
from rewardkit_reward_model.loading import Source, in_batches, load_classifier, load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch


class Classifier:
    """A sequence classifier and its tokenizer: scores token sequences by the log-odds of a label, or by the only output."""

    def __init__(self, source: Source) -> None:
        """Load the model and its tokenizer.

        Args:
            source: The model and how it is loaded.

        Raises:
            ValueError: There is no such model, it can't pad, or it has several outputs and no label is given.
        """
        import torch

        self.device = source.torch_device()
        self.tokenizer = load_tokenizer(source)
        self.model = load_classifier(source, "SequenceClassification")
        self.is_exact = self.model.dtype == torch.float32
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
            return self._log_odds(logits).tolist()

    def _log_odds(self, logits: torch.Tensor) -> torch.Tensor:
        """The score of each row of logits. Shapes: (N, outputs) to (N,)."""
        if logits.shape[1] == 1:
            return logits[:, 0]
        others = [index for index in range(logits.shape[1]) if index != self.label]
        return logits[:, self.label] - logits[:, others].logsumexp(1)


def choose_label(source: Source, config: Any) -> int:
    """Return the index of the good output.

    Args:
        source: The model, with the label that was asked for.
        config: The model's configuration, of transformers.

    Raises:
        ValueError: The model has several outputs and no label is given, or it has no such output.
    """
    labels: dict[int, str] = config.id2label
    names = ", ".join(f"{index} ({name})" for index, name in labels.items())
    if source.label is None:
        if len(labels) > 1:
            raise ValueError(f"{source.model} has {len(labels)} outputs; set label to the good one: {names}")
        return 0
    if not 0 <= source.label < len(labels):
        raise ValueError(f"label is {source.label}, but {source.model} has {names}")
    return source.label
