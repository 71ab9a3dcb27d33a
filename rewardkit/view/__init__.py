"""``rewardkit view``: a local viewer of scored files, training runs, evaluations and the rollout files of other systems."""
