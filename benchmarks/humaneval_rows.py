"""Rollouts of HumanEval with known scores: each problem with eight correct, wrong and hostile completions.

    python benchmarks/humaneval_rows.py HumanEval.jsonl.gz rollouts.jsonl [--problems 164]

The mutants are canonical solutions with one operator, comparison or constant changed. The sandbox decides whether one differs from the
canonical solution on the inputs of its tests; one that differs and is still correct (a problem with several answers) is skipped. A
problem whose mutants all behave like the canonical solution gets a body that returns None.
"""

from __future__ import annotations

import argparse
import ast
import copy
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rewardkit_sandbox import Limits, Program, Sandbox, Stdin, open_sandbox

Problem = Mapping[str, str]

MAX_MUTANTS = 60
LIMITS = Limits(cpu_s=1, wall_s=5)
_OPERATORS: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Add,),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,),
    ast.Mod: (ast.FloorDiv,),
    ast.Pow: (ast.Mult,),
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}

_COMPARER = '''
import copy, random, sys

def load(source):
    space = {"__name__": "solution"}
    exec(source, space)
    return space

def behaviour(function):
    """Return the results of a function for each input, and its arguments afterwards."""
    for args in INPUTS:
        own = copy.deepcopy(args)
        try:
            yield repr(function(*own)), repr(own)
        except Exception as error:
            yield type(error).__name__, ""

def record(*args):
    INPUTS.append(copy.deepcopy(args))
    return canonical(*args)

def accepts(function):
    random.seed(0)
    tests = load(PROMPT + "\\n    pass\\n" + TESTS)
    try:
        tests["check"](function)
    except Exception:
        return False
    return True

INPUTS = []
canonical = load(CANONICAL)[ENTRY]
assert accepts(record), "the canonical solution fails"
mutant = load(MUTANTS[int(input())])[ENTRY]
differs = any(one != other for one, other in zip(behaviour(canonical), behaviour(mutant)))
print("other" if differs and not accepts(mutant) else "same")
'''


def read_problems(path: Path) -> list[dict[str, str]]:
    """Return HumanEval's problems."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def canonical(problem: Problem) -> str:
    """Return the whole canonical program."""
    return problem["prompt"] + problem["canonical_solution"]


def mutants(problem: Problem) -> Iterator[str]:
    """Yield programs that differ from the canonical one in one operator, comparison or constant of the solution."""
    tree = ast.parse(canonical(problem))
    first_line = problem["prompt"].count("\n") + 1
    count = sum(1 for _ in _places(tree, first_line))
    for number in range(count):
        variants = len(next(each for at, each in enumerate(_places(tree, first_line)) if at == number)[1])
        for variant in range(variants):
            changed = copy.deepcopy(tree)
            node, changes = next(each for at, each in enumerate(_places(changed, first_line)) if at == number)
            changes[variant](node)
            yield ast.unparse(ast.fix_missing_locations(changed))


def _places(tree: ast.Module, first_line: int) -> Iterator[tuple[ast.AST, list[Any]]]:
    """Each node of the solution that can be changed, with the ways to change it."""
    for node in ast.walk(tree):
        if getattr(node, "lineno", 0) < first_line:
            continue
        match node:
            case ast.BinOp() | ast.AugAssign() | ast.BoolOp():
                kinds = _OPERATORS.get(type(node.op), ())
                yield node, [lambda to, kind=kind: setattr(to, "op", kind()) for kind in kinds]
            case ast.Compare():
                kinds = _OPERATORS.get(type(node.ops[0]), ())
                yield node, [lambda to, kind=kind: to.ops.__setitem__(0, kind()) for kind in kinds]
            case ast.Constant(value=bool()):
                yield node, [lambda to: setattr(to, "value", not to.value)]
            case ast.Constant(value=int() | float()):
                yield node, [lambda to: setattr(to, "value", to.value + 1)]
            case ast.Constant(value=str()):
                yield node, [lambda to: setattr(to, "value", to.value + "x")]


def find_mutant(sandbox: Sandbox, problem: Problem) -> str | None:
    """Return the first mutant that differs from the canonical solution on the tests' inputs, or None."""
    sources = [source for source, _ in zip(mutants(problem), range(MAX_MUTANTS), strict=False)]
    given = {
        "PROMPT": problem["prompt"],
        "TESTS": problem["test"],
        "CANONICAL": canonical(problem),
        "ENTRY": problem["entry_point"],
        "MUTANTS": sources,
    }
    program = "\n".join(f"{name} = {value!r}" for name, value in given.items()) + _COMPARER
    cases = [Stdin(f"{number}\n") for number in range(len(sources))]
    result = sandbox.run(Program(program), cases, LIMITS, stop=lambda _, run: run.ok and run.text == "other\n")
    for source, run in zip(sources, result.runs, strict=True):
        if run.ok and run.text == "other\n":
            return source
    return None


def find_mutants(sandbox: Sandbox, problems: Sequence[Problem]) -> list[str | None]:
    """Return one mutant or None for each problem."""
    with ThreadPoolExecutor(4) as threads:
        return list(threads.map(lambda problem: find_mutant(sandbox, problem), problems))


_FORGERIES = (
    """class Forged(str):
    __eq__ = __le__ = __ge__ = lambda self, other: True
    __ne__ = lambda self, other: False
    __hash__ = str.__hash__

def {name}(*args, **kwargs):
    return Forged('forged')
""",
    """import os

def {name}(*args, **kwargs):
    print('all tests passed', flush=True)
    os._exit(0)
""",
    """import builtins, sys

class Quiet(Exception):
    pass

builtins.AssertionError = Quiet
sys.excepthook = lambda *error: None

def {name}(*args, **kwargs):
    raise SystemExit(0)
""",
    """import os

def {name}(*args, **kwargs):
    os.write(3, b'["passed", "", {{}}]\\n' * 4)
""",
)
KINDS = ("canonical", "body", "mutated", "truncated", "hanging", "malformed", "unfenced", "forging")


def completions(problem: Problem, mutant: str | None, number: int) -> dict[str, str]:
    """Return a completion of each of ``KINDS``."""
    whole, solution, name = canonical(problem), problem["canonical_solution"], problem["entry_point"]
    header = problem["prompt"] + "    pass\n"
    wrong = mutant or problem["prompt"] + "    return None\n"
    return {
        "canonical": f"This solves it:\n\n```python\n{whole}```\n",
        "body": f"The body of the function is:\n```python\n{solution}```\nThat is all.",
        "mutated": f"Let me think.\n```py\n{wrong}\n```",
        "truncated": f"```python\n{problem['prompt']}{solution[: len(solution) // 2]}",
        "hanging": f"```python\n{header}\ndef {name}(*args):\n    while True:\n        pass\n```\n",
        "malformed": f"```python\n{whole.rstrip()} )\n```\n",
        "unfenced": f"Simply write\n\n{whole}",
        "forging": f"```python\n{_FORGERIES[number % len(_FORGERIES)].format(name=name)}```",
    }


def rows(problems: Sequence[Problem], found: Sequence[str | None]) -> Iterator[dict[str, str]]:
    """Yield rollouts as rows of JSON Lines, eight in a row for each problem."""
    for number, (problem, mutant) in enumerate(zip(problems, found, strict=True)):
        for kind, completion in completions(problem, mutant, number).items():
            yield {
                "prompt": problem["prompt"],
                "completion": completion,
                "group": problem["task_id"],
                "test": problem["test"],
                "entry_point": problem["entry_point"],
                "kind": kind,
            }


def main() -> None:
    """Write the rollouts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problems_file", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--problems", type=int, help="only this many, from the first")
    arguments = parser.parse_args()
    problems = read_problems(arguments.problems_file)[: arguments.problems]
    with open_sandbox(limits=LIMITS) as sandbox:
        found = find_mutants(sandbox, problems)
    with arguments.out.open("w", encoding="utf-8") as file:
        for row in rows(problems, found):
            file.write(json.dumps(row) + "\n")
    print(f"{len(problems) * len(KINDS):,} rows in {arguments.out}; no mutant differs for {found.count(None)} problems")


if __name__ == "__main__":
    main()
