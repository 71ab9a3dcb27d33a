"""``format.code_block``: a fenced code block in a language."""

from __future__ import annotations

import ast
import threading
import warnings
from typing import TYPE_CHECKING

from rewardkit import Rollout, Score, reward
from rewardkit_format.fences import fenced_blocks
from rewardkit_format.verdicts import excerpt, verdict

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
"""Longer programs are not parsed: a syntax tree takes about a hundred times the memory of its source."""


@reward(
    "format.code_block",
    example="code: {use: format.code_block, with: {language: python, parses: true}, weight: 0.1}",
)
class CodeBlock:
    """1 if the completion has a fenced code block that is closed and not empty, else 0.

    The last block of the language counts.

    Args:
        language: The language after the opening fence, such as ``python``; usual short names (``py``, ``cpp``, ``js``)
            count as well. By default, blocks of any language count, with or without a name.
        once: Require exactly one block of the language.
        parses: Require that the block parses as Python (of the version that runs rewardkit). It is never run.
    """

    def __init__(self, *, language: str | None = None, once: bool = False, parses: bool = False) -> None:
        wanted = language.strip().lower() if language is not None else None
        if wanted == "":
            raise ValueError("language is empty; leave it out to accept any language")
        if parses and wanted is not None and wanted not in _ALIASES[0]:
            raise ValueError(f"parses works only for python, not for {language}")
        self._languages = None if wanted is None else next((group for group in _ALIASES if wanted in group), {wanted})
        self._name = f"{wanted} block" if wanted else "code block"
        self._once, self._parses = once, parses

    def __call__(self, rollouts: Sequence[Rollout], /) -> list[Score]:
        """Score a batch."""
        return [self._score_one(rollout.completion_text) for rollout in rollouts]

    def _score_one(self, text: str) -> Score:
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
        # Without its indentation an indented block does not stand in the completion.
        extracted = None if last.indent else excerpt(code)
        if self._parses and (fault := python_fault(code)):
            return Score(0.0, fault, extracted=extracted)
        return Score(1.0, f"there is a {self._name}", extracted=extracted)


def python_fault(code: str) -> str:
    """Return why ``code`` does not parse as Python, or an empty string if it does."""
    if len(code) > MAX_PARSED_CHARS:
        return f"the code is longer than {MAX_PARSED_CHARS} characters and was not parsed"
    try:
        # The score must not depend on how warnings are configured. Warning filters belong to the whole process, so two
        # threads that set and restore them at once could leave them changed.
        with _WARNINGS, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(code)
    except SyntaxError as error:
        return f"the code does not parse: line {error.lineno}" if error.lineno else "the code does not parse"
    except ValueError:  # a NUL, or a lone surrogate
        return "the code does not parse: it contains characters that source code cannot contain"
    except (RecursionError, MemoryError):
        return "the code does not parse: it is nested too deeply"
    return ""
