"""Training with verifiable rewards: SFT, reward models, GRPO and PPO in loops that read from top to bottom.

``config`` and ``stages`` are importable without torch, so that a configuration can be checked anywhere; all else needs
``pip install 'rewardkit[train]'``.
"""
