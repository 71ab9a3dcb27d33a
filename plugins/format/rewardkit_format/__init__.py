"""Rewards for the form of a completion. None of them knows whether an answer is right."""

from __future__ import annotations

from rewardkit_format.blocks import CodeBlock
from rewardkit_format.boxed import Boxed
from rewardkit_format.json_value import JsonValue
from rewardkit_format.language import Language
from rewardkit_format.pattern import Regex
from rewardkit_format.repetition import Repetition
from rewardkit_format.tags import Tags

__all__ = ["Boxed", "CodeBlock", "JsonValue", "Language", "Regex", "Repetition", "Tags"]
