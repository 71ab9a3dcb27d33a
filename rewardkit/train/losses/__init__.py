"""The formulas of training, as pure functions on tensors. Nothing here generates, loads or saves.

Letters in names give shapes: B rows, T completion tokens (padded on the right), S steps of a process reward, P preference
pairs, C components. ``loss_mask_B_T`` is True where a token counts. Every function leaves its arguments unchanged, computes in the
dtype that it is given (log-probabilities belong in fp32) and is deterministic on a CPU.

Modules: ``advantages``, ``policy_loss``, ``reduction``, ``kl``, ``gae``, ``importance_correction``, ``preference``,
``masked_statistics``. ``rewardkit.train.config.algorithms`` says which of them make up the named algorithms.
"""
