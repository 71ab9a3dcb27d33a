"""``format.code_block``: a fenced block of a language."""

from __future__ import annotations

import ast
import threading
import warnings
from typing import TYPE_CHECKING

from rewardkit import Rollout, Score, reward
from rewardkit_format.fences import fenced_blocks
from rewardkit_format.verdicts import verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

_ALIASES = (
    frozenset({"python", "py", "python3", "py3"}),
    frozenset({"javascript", "js", "node"}),
    frozenset({"typescript", "ts"}),
    frozenset({"c++", "cpp", "cxx", "cc"}),
    frozenset({"c#", "csharp", "cs"}),
    frozenset({"shell", "sh", "bash", "zsh"}),
    frozenset({"rust", "rs"}),
    frozenset({"go", "golang"}),
    frozenset({"yaml", "yml"}),
    frozenset({"markdown", "md"}),
)

_WARNINGS = threading.Lock()

MAX_PARSED_CHARS = 200_000
"""Longer programs are not parsed: a syntax tree takes some hundred times the memory of its source."""


@reward(
    "format.code_block",
    example="code: {use: format.code_block, with: {language: python, parses: true}, weight: 0.1}",
)
class CodeBlock:
    """A fenced block of code, closed and not empty.

    Gives 1 where there is one, else 0. The last block of the language is the one that counts.

    Args:
        language: What must stand after the opening fence, such as ``python``; usual short names (``py``, ``cpp``,
            ``js``) count as well. Without it, blocks of any language count, also unnamed ones.
        once: Ask for exactly one block of the language.
        parses: Ask that the block parses as Python (of the version that runs rewardkit). It is never run.
    """

    def __init__(self, *, language: str | None = None, once: bool = False, parses: bool = False) -> None:
        wanted = language.strip().lower() if language is not None else None
        if wanted == "":
            raise ValueError("language is empty; leave it out to accept any")
        if parses and wanted is not None and wanted not in _ALIASES[0]:
            raise ValueError(f"parses works for python only, not for {language}")
        self._languages = None if wanted is None else next((group for group in _ALIASES if wanted in group), {wanted})
        self._name = f"{wanted} block" if wanted else "block of code"
        self._once, self._parses = once, parses

    def __call__(self, rollouts: Sequence[Rollout], /) -> list[Score]:
        """Score a batch."""
        return [self._judge(rollout.completion_text) for rollout in rollouts]

    def _judge(self, text: str) -> Score:
        count, last = 0, None
        if "```" in text or "~~~" in text:
            for block in fenced_blocks(text):
                if self._languages is None or block.language in self._languages:
                    count, last = count + 1, block
        if last is None:
            return verdict(0.0, f"there is no {self._name}")
        if self._once and count > 1:
            return verdict(0.0, f"there is more than one {self._name}")
        if not last.closed:
            return verdict(0.0, f"the {self._name} is not closed")
        code = last.content(text)
        if not code.strip():
            return verdict(0.0, f"the {self._name} is empty")
        if self._parses and (fault := python_fault(code)):
            return verdict(0.0, fault)
        return verdict(1.0, f"there is a {self._name}")


def python_fault(code: str) -> str:
    """Why ``code`` does not parse as Python, or an empty string if it does."""
    if len(code) > MAX_PARSED_CHARS:
        return f"the code is longer than {MAX_PARSED_CHARS} characters, and not parsed"
    try:
        # The verdict must not hang on how warnings are configured. Their filters belong to the whole process, so two
        # threads that set and restore them at once could leave them off for good.
        with _WARNINGS, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(code)
    except SyntaxError as error:
        return f"the code does not parse: line {error.lineno}" if error.lineno else "the code does not parse"
    except ValueError:  # a NUL, or a lone surrogate
        return "the code does not parse: it holds characters that no source can hold"
    except (RecursionError, MemoryError):
        return "the code does not parse: it is nested too deeply"
    return ""
