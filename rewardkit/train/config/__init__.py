"""The settings of training configurations. Needs no torch, so a configuration can be checked on a machine without it.

The models are also the schema. ``read_train_config`` checks a YAML file against it and reports every problem with file, line and
column. Relative paths are relative to the folder of the file.
"""

from rewardkit.train.config.base import (
    CheckpointConfig,
    LogConfig,
    LoraConfig,
    ModelConfig,
    OptimizerConfig,
    RowsConfig,
    RowSource,
    RunConfig,
    Source,
    TextData,
    paths,
    plain,
    source_weights,
)
from rewardkit.train.config.monitors import MonitorsConfig
from rewardkit.train.config.ppo import (
    CriticConfig,
    PpoConfig,
)
from rewardkit.train.config.preference import (
    DpoConfig,
    PairData,
    PreferenceConfig,
    RewardModelConfig,
    RewardModelData,
)
from rewardkit.train.config.rl import (
    AlgorithmConfig,
    CorrectionConfig,
    FilterConfig,
    GrpoConfig,
    KlConfig,
    ProcessConfig,
    RlConfig,
    RlEval,
    RolloutConfig,
    VerifierNoise,
    WeightSyncCheckConfig,
)
from rewardkit.train.config.sft import (
    SftConfig,
    SftData,
    SftLoss,
    SpanWeight,
)

__all__ = [
    "AlgorithmConfig",
    "CheckpointConfig",
    "CorrectionConfig",
    "CriticConfig",
    "DpoConfig",
    "FilterConfig",
    "GrpoConfig",
    "KlConfig",
    "LogConfig",
    "LoraConfig",
    "ModelConfig",
    "MonitorsConfig",
    "OptimizerConfig",
    "PairData",
    "PpoConfig",
    "PreferenceConfig",
    "ProcessConfig",
    "RewardModelConfig",
    "RewardModelData",
    "RlConfig",
    "RlEval",
    "RolloutConfig",
    "RowSource",
    "RowsConfig",
    "RunConfig",
    "SftConfig",
    "SftData",
    "SftLoss",
    "Source",
    "SpanWeight",
    "TextData",
    "VerifierNoise",
    "WeightSyncCheckConfig",
    "paths",
    "plain",
    "source_weights",
]
