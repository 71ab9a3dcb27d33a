"""The critic of PPO, which estimates at each token the reward that is still to come."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rewardkit.train.models.dropout import switch_off_dropout
from rewardkit.train.models.policy import Policy, TokenLogprobs, TokenSpan


class ValueModel(nn.Module):
    """A linear head on hidden states, those of the policy or of a second model that starts as a copy of the policy.

    The value of a token is that of the state in which it is chosen, so it is read where the token is predicted. The head
    starts at 0.
    """

    def __init__(self, policy: Policy, *, own: bool) -> None:
        super().__init__()
        self.policy = policy
        self.reader = policy.copy(trained=True) if own else None
        """The critic's own model; None for a head on the policy."""
        if self.reader is not None:
            switch_off_dropout(self.reader.model)
        width = policy.lm.get_input_embeddings().weight.shape[1]
        self.head = nn.Linear(width, 1, device=policy.device)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that learn, less those of the policy."""
        own = {} if self.reader is None else {f"reader.{name}": value for name, value in self.reader.trained.items()}
        return {**own, **{f"head.{name}": value for name, value in self.head.named_parameters()}}

    def values_of(self, judged: TokenLogprobs, *, detached: bool = False) -> Tensor:
        """Values from the policy's hidden states; ``detached`` keeps the gradient from the policy. Shape: (B, T)."""
        hidden_N_H = judged.hidden_N_H.detach() if detached else judged.hidden_N_H
        return self._padded(hidden_N_H, judged.mask_B_T)

    def forward(self, batch: Sequence[TokenSpan]) -> Tensor:
        """Values by a reading of its own. Shape: (B, T); 0 on padding."""
        reader = self.reader or self.policy
        return self._padded(reader.states(batch, packed=reader.packing), reader.mask(batch))

    def estimate(self, batch: Sequence[TokenSpan], most_tokens: int) -> Tensor:
        """Compute the values of a whole batch without gradient. Each process computes its share.

        Args:
            batch: The sequences.
            most_tokens: The largest number of tokens of a micro-batch.

        Returns:
            Shape (B, T), on the CPU; 0 on padding.
        """
        result_B_T = torch.zeros(len(batch), max(row.length for row in batch))
        reader = self.reader or self.policy
        lengths = [len(row.tokens) for row in batch]
        packed = reader.packed_rows([[length] for length in lengths])
        return reader.compute_rows(
            lambda part: self([batch[index] for index in part]), result_B_T, lengths, most_tokens, packed
        )

    def _padded(self, hidden_N_H: Tensor, mask_B_T: Tensor) -> Tensor:
        values_N: Tensor = self.head(hidden_N_H.float()).squeeze(-1)
        return values_N.new_zeros(mask_B_T.shape).masked_scatter(mask_B_T, values_N)
