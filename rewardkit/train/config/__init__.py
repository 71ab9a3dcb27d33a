"""What a training configuration may say. Needs no torch: a configuration can be checked where nothing can be trained.

The models here are the schema, too: ``read_train_config`` holds a YAML file against it and tells every problem with file, line
and column. Relative paths are taken from the folder of the file.
"""

from rewardkit.train.config.base import (
    CheckpointConfig,
    LogConfig,
    LoraConfig,
    ModelConfig,
    OptimizerConfig,
    RowsConfig,
    RunConfig,
    TextData,
    paths,
    plain,
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
    "RlConfig",
    "RlEval",
    "RolloutConfig",
    "RowsConfig",
    "RunConfig",
    "SftConfig",
    "SftData",
    "SftLoss",
    "SpanWeight",
    "TextData",
    "WeightSyncCheckConfig",
    "paths",
    "plain",
]
