"""Runs a training configuration in its own process, with rewards that need no plugin: ``driver.py CONFIG``."""

import sys

from rewardkit import Rollout, reward
from rewardkit.errors import RewardkitError
from rewardkit.registry import Registry


@reward("digits")
def digits(rollout: Rollout) -> float:
    """Reward the share of digits."""
    text = rollout.completion_text
    return sum(map(str.isdigit, text)) / max(len(text), 1)


def registry():
    """Return a registry with the rewards above."""
    found = Registry()
    found.register(digits)
    return found


if __name__ == "__main__":
    from rewardkit.train.config.reading import read_train_config, stage_of
    from rewardkit.train.config.stages import STAGES
    from rewardkit.train.trainer.launch import launch

    try:
        file = read_train_config(sys.argv[1], registry())
        launch(file, STAGES[stage_of(file.document)].runner())
    except RewardkitError as error:
        print(error, file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)
