"""The stages of training, one module each: SFT, reward model, DPO, GRPO, PPO.

A new stage is one module here (or anywhere) and one line in ``rewardkit.train.config.stages.STAGES``.
"""
