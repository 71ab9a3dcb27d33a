"""SFT, reward model, DPO, GRPO and PPO."""
