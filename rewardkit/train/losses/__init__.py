"""The formulas of training, as pure functions on tensors. Nothing here generates, loads, saves or steps.

Letters in names give shapes: B rows, T completion tokens (padded on the right), S steps of a process reward, P preference
pairs, C components. ``loss_mask_B_T`` is True where a token counts. Every function leaves its arguments alone, works in the
dtype that it is given (log-probabilities belong in fp32) and is deterministic on a CPU.

``advantages`` · ``policy_loss`` · ``reduction`` · ``kl`` · ``gae`` · ``correction`` · ``preference`` · ``metrics`` ·
``presets`` (which of them the named algorithms are made of).
"""
