"""Rewards for the format of a completion. They do not check whether the answer is correct."""

from __future__ import annotations

from rewardkit_format.blocks import CodeBlock
from rewardkit_format.boxed import Boxed
from rewardkit_format.json_value import JsonValue
from rewardkit_format.language import Language
from rewardkit_format.pattern import Regex
from rewardkit_format.repetition import Repetition
from rewardkit_format.tags import Tags

__all__ = ["Boxed", "CodeBlock", "JsonValue", "Language", "Regex", "Repetition", "Tags"]
