"""Prompts that are code: HumanEval's function heads and LeetCodeDataset's imports, which a completion continues."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import lru_cache

from rewardkit_code.program.extraction import defines
from rewardkit_code.program.prelude import put_before
from rewardkit_code.row_tests.python_tests import parse, syntax_fault

_HEAD = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)


@dataclass(frozen=True, slots=True)
class WholeProgram:
    """A program with the code that is prepended to it."""

    source: str
    prelude: str = ""
    """The code of the prompt, on which the tests may build as well."""
    lines_before: int = 0
    """Lines that do not come from the completion."""


@lru_cache(maxsize=1024)
def is_code(prompt: str) -> bool:
    """Return whether a prompt is a Python module of imports and definitions, and nothing that runs."""
    if syntax_fault(prompt):
        return False
    body = parse(prompt).body
    is_text = [isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body]
    definitions = [isinstance(node, _HEAD) for node in body]
    return any(definitions) and all(one or other for one, other in zip(is_text, definitions, strict=True))


@lru_cache(maxsize=1024)
def _is_open_head(prompt: str) -> bool:
    """Return whether a prompt ends with a function's signature, without a body."""
    return is_code(f"{prompt}\n    pass\n")


def with_prompt(prompt: str, source: str, entry: str) -> WholeProgram:
    """Return the program of a completion whose prompt may be the head of the function.

    A source that starts indented, or does not define the function, continues the prompt. A source that defines it gets the
    prompt's imports and helpers before it. A prompt that is not code is left out.

    Args:
        prompt: The prompt.
        source: The program in the completion.
        entry: The function under test.
    """
    is_head = is_code(prompt)
    if not is_head and not _is_open_head(prompt):
        return WholeProgram(source)
    prelude = prompt if is_head else ""
    continues = source.lstrip("\n")[:1] in (" ", "\t") or not defines(source, entry)
    if continues and defines(prompt, entry):
        return WholeProgram(prompt + source, prelude, prompt.count("\n"))
    if not is_head:
        return WholeProgram(source)
    whole, before = put_before(f"{prompt}\n", source)
    return WholeProgram(whole, prelude, before)
