"""Decides with sympy whether two expression trees are equal. Runs in worker processes only.

Trees are built node by node from sympy's constructors; no text is evaluated or given to `sympify`. sympy is imported by the process that
workers are forked from, so that a worker is ready at once.
"""

from __future__ import annotations

import cmath
import contextlib
import os
import resource
import signal
import time
from dataclasses import dataclass
from typing import Any

_X: list[Any] = ["sym", "x"]
_ONE: list[Any] = ["num", ["0x1", "0x1"]]
_WARM_UP: tuple[tuple[list[Any], list[Any]], ...] = (
    (["big", "int", "x", _ONE, ["add", _ONE, _ONE], ["fn", "sin", _X]], ["fn", "cos", _ONE]),
    (["big", "sum", "x", _ONE, ["const", "inf"], ["div", _ONE, ["mul", _X, _X]]], ["const", "pi"]),
    (["add", ["mul", ["fn", "sin", _X], ["fn", "sin", _X]], ["fn", "sqrt", _X]], _X),
)
"""Questions that make sympy load what most questions need."""
OUT_OF_MEMORY = 75
"""The exit code of a worker that reached its memory limit."""
OUT_OF_TIME = -signal.SIGPROF
"""The exit code of a worker that reached its limit of CPU time."""


@dataclass(frozen=True, slots=True)
class Question:
    """Two expression trees to compare."""

    left: list[Any]
    right: list[Any]
    log: str
    """The base of a logarithm without one, "e" or "10"."""
    cpu_s: float
    """Seconds of CPU time after which the kernel ends the worker."""
    memory_bytes: int
    """Memory that the worker may use beyond what it has at its start."""


class SympyProgram:
    """The program of the worker processes."""

    def load(self) -> SympyWorker:
        """Import sympy, with all that most questions need."""
        import sympy  # noqa: F401 - workers are forked from a process that has imported it

        for left, right in _WARM_UP:  # sympy imports much of itself on first use
            with contextlib.suppress(Exception):
                decide(left, right, "e")
        return SympyWorker()


class SympyWorker:
    """Answers questions in a worker process, within their limits of CPU time and memory."""

    def __init__(self) -> None:
        self._base_bytes = 0

    def start(self) -> None:
        """Measure the memory of the new worker, and silence it."""
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
            self._base_bytes = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)

    def __call__(self, question: Question) -> tuple[bool | None, float]:
        """Return whether the trees are equal, None if sympy can't tell, and the CPU seconds that this took."""
        most = resource.getrlimit(resource.RLIMIT_AS)[1]
        wanted = self._base_bytes + question.memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))
        began = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, question.cpu_s)  # SIGPROF ends the process, whatever it is doing
        try:
            answer = decide(question.left, question.right, question.log)
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        except Exception:  # noqa: BLE001 - sympy may raise anything; the question stays open
            answer = None
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            resource.setrlimit(resource.RLIMIT_AS, (most, most))  # reading the next question is not the answer's memory
        return answer, time.process_time() - began


def decide(left: list[Any], right: list[Any], log: str) -> bool | None:
    """Return whether two trees are equal; None unless sympy is sure or the numbers decide."""
    import sympy as sp

    a, b = _build(left, log), _build(right, log)
    if isinstance(a, sp.MatrixBase) != isinstance(b, sp.MatrixBase):
        return False
    if isinstance(a, sp.MatrixBase):
        if a.shape != b.shape:
            return False
        verdicts = [_zero(sp, x - y) for x, y in zip(list(a), list(b), strict=True)]
        return False if False in verdicts else None if None in verdicts else True
    antiderivatives = [e for e in (a - b).atoms(sp.Integral) if any(len(limit) == 1 for limit in e.limits)]
    if antiderivatives:  # up to a constant: compare derivatives
        variable = antiderivatives[0].limits[0][0]
        return _zero(sp, sp.diff(a, variable) - sp.diff(b, variable))
    return _zero(sp, a - b)


def _zero(sp: Any, difference: Any) -> bool | None:
    if any(
        limit[1].is_Integer and limit[2].is_Integer for s in difference.atoms(sp.Sum, sp.Product) for limit in s.limits
    ):
        difference = difference.doit()
    if difference == 0:
        return True
    if not difference.free_symbols:
        number = complex(sp.N(difference, 25))
        size = max((abs(complex(sp.N(term, 15))) for term in sp.Add.make_args(difference)), default=1.0)
        if not cmath.isfinite(number):
            return None
        if abs(number) > 1e-7 * max(size, 1e-300):
            return False
    done = difference.doit() if difference.has(sp.Integral, sp.Sum, sp.Product, sp.Limit) else difference
    if done == 0 or sp.simplify(done) == 0:
        return True
    if done.free_symbols:
        verdict = done.equals(0)
        return verdict if verdict is None else bool(verdict)
    value = abs(complex(sp.N(done, 40)))
    return True if value < 1e-25 else None


def _build(tree: Any, log: str) -> Any:
    """A sympy expression from a tree `[head, arguments…]`."""
    import sympy as sp

    head, args = tree[0], tree[1:]

    def build(node: Any) -> Any:
        return _build(node, log)

    if head in ("num", "base"):
        numerator, denominator = args[0]
        return sp.Rational(int(numerator, 16), int(denominator, 16))
    if head == "sym":
        return sp.Symbol(args[0], real=True)
    if head == "const":
        return {"pi": sp.pi, "e": sp.E, "i": sp.I, "inf": sp.oo}[args[0]]
    if head == "word":
        return sp.Mul(*(build(["const", c] if c in "ei" else ["sym", c]) for c in args[0]))
    if head == "add":
        return sum((build(a) for a in args[1:]), build(args[0]))
    if head == "mul":
        result = build(args[0])
        for factor in args[1:]:
            result = result * build(factor)
        return result
    if head in ("div", "ratio"):
        return build(args[0]) / build(args[1])
    if head == "pow":
        base, exponent = build(args[0]), build(args[1])
        if exponent.is_Integer and abs(exponent) > 2000 and not isinstance(base, sp.MatrixBase):
            return sp.Pow(base, exponent, evaluate=False)
        return base**exponent
    if head == "pct":
        return build(args[0]) / 100
    if head == "deg":
        return build(args[0]) * sp.pi / 180
    if head == "unit":
        return build(args[0])
    if head == "call":
        return sp.Function(args[0])(*(build(a) for a in args[1:]))
    if head == "matrix":
        return sp.Matrix([[build(x) for x in row] for row in args[0]])
    if head == "fn":
        return _function(sp, args[0], [build(a) for a in args[1:]], log)
    if head == "big":
        operator, variable, lower, upper, body = args
        name = sp.Symbol(variable, real=True)
        low, high = (build(x) if x is not None else None for x in (lower, upper))
        inside = build(body)
        if operator == "int":
            return sp.Integral(inside, name if low is None else (name, low, high))
        if operator == "lim":
            return sp.Limit(inside, name, low, "+-").doit()
        return (sp.Sum if operator == "sum" else sp.Product)(inside, (name, low, high))
    raise ValueError(f"no symbolic form for {head}")


def _function(sp: Any, name: str, args: list[Any], log: str) -> Any:
    simple = {
        "sin": sp.sin, "cos": sp.cos, "tan": sp.tan, "cot": sp.cot, "sec": sp.sec, "csc": sp.csc, "arcsin": sp.asin,
        "arccos": sp.acos, "arctan": sp.atan, "arccot": sp.acot, "arcsec": sp.asec, "arccsc": sp.acsc, "sinh": sp.sinh,
        "cosh": sp.cosh, "tanh": sp.tanh, "arcsinh": sp.asinh, "arccosh": sp.acosh, "arctanh": sp.atanh, "sqrt": sp.sqrt,
        "ln": sp.log, "abs": sp.Abs, "fact": sp.factorial, "dfact": sp.factorial2, "binom": sp.binomial, "floor": sp.floor,
        "ceil": sp.ceiling, "gcd": sp.gcd, "lcm": sp.lcm, "mod": sp.Mod, "max": sp.Max, "min": sp.Min, "sgn": sp.sign,
        "Re": sp.re, "Im": sp.im, "arg": sp.arg,
    }  # fmt: skip
    if name in simple:
        return simple[name](*args)
    if name == "root":
        return sp.root(*args)
    if name == "log":
        if len(args) == 2:
            return sp.log(*args)
        return sp.log(args[0]) if log == "e" else sp.log(args[0], 10)
    if name == "det":
        return args[0].det()
    if name == "tr":
        return args[0].trace()
    raise ValueError(f"no symbolic form for {name}")
