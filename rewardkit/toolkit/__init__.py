"""What plugins may use beyond a reward function: rows of files, jobs that can be resumed, reward files, options, services, rates, charts.

A plugin that adds commands reads files and keeps finished work as rewardkit does. Each name loads when it is first touched.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rewardkit.files import write_whole
    from rewardkit.insight.noise import ErrorRates, LabelledRow, Rate, error_rates
    from rewardkit.insight.svg_chart import Line, line_chart
    from rewardkit.scoring.columns.paths import RowError
    from rewardkit.scoring.transform import Made, Row, Transform, TransformResult
    from rewardkit.services.limits import RETRIED_STATUS, GaveUpError, TryAgainError, retry_after_s
    from rewardkit.toolkit.calls import call_service
    from rewardkit.toolkit.jobs import run_transform
    from rewardkit.toolkit.numbers import FiniteRange
    from rewardkit.toolkit.pages import check_page
    from rewardkit.toolkit.reward_files import ConfiguredReward, configured_rewards, read_yaml
    from rewardkit.toolkit.rows import map_row, read_rows

_MODULES = {
    "RETRIED_STATUS": "rewardkit.services.limits",
    "ConfiguredReward": "rewardkit.toolkit.reward_files",
    "ErrorRates": "rewardkit.insight.noise",
    "FiniteRange": "rewardkit.toolkit.numbers",
    "GaveUpError": "rewardkit.services.limits",
    "LabelledRow": "rewardkit.insight.noise",
    "Line": "rewardkit.insight.svg_chart",
    "Made": "rewardkit.scoring.transform",
    "Rate": "rewardkit.insight.noise",
    "Row": "rewardkit.scoring.transform",
    "RowError": "rewardkit.scoring.columns.paths",
    "Transform": "rewardkit.scoring.transform",
    "TransformResult": "rewardkit.scoring.transform",
    "TryAgainError": "rewardkit.services.limits",
    "call_service": "rewardkit.toolkit.calls",
    "check_page": "rewardkit.toolkit.pages",
    "configured_rewards": "rewardkit.toolkit.reward_files",
    "error_rates": "rewardkit.insight.noise",
    "line_chart": "rewardkit.insight.svg_chart",
    "map_row": "rewardkit.toolkit.rows",
    "read_rows": "rewardkit.toolkit.rows",
    "read_yaml": "rewardkit.toolkit.reward_files",
    "retry_after_s": "rewardkit.services.limits",
    "run_transform": "rewardkit.toolkit.jobs",
    "write_whole": "rewardkit.files",
}

__all__ = [
    "RETRIED_STATUS",
    "ConfiguredReward",
    "ErrorRates",
    "FiniteRange",
    "GaveUpError",
    "LabelledRow",
    "Line",
    "Made",
    "Rate",
    "Row",
    "RowError",
    "Transform",
    "TransformResult",
    "TryAgainError",
    "call_service",
    "check_page",
    "configured_rewards",
    "error_rates",
    "line_chart",
    "map_row",
    "read_rows",
    "read_yaml",
    "retry_after_s",
    "run_transform",
    "write_whole",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
