"""`code.tests`: whether a program does what its tests ask for."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt
from rewardkit_sandbox import BadTests, Call, Execution, Limits, Program, Sandbox, Tests, same_output, same_value, show

from rewardkit import FieldName, Rollout, Score, Unscored, reward
from rewardkit_code import plans
from rewardkit_code.boxes import Backend, Boxes, Options
from rewardkit_code.extract import Extraction, program
from rewardkit_code.plans import AssertTest, CallTest, CodeTest, OutputTest, ReferenceFault, Test

Outcome = tuple[bool, str]
_UNUSABLE = ("SyntaxError", "IndentationError", "NameError", "ImportError", "ModuleNotFoundError")


def check(params: Any, rollout: Rollout) -> str | None:
    """What is wrong with a row's tests, before anything is run."""
    try:
        _read(rollout, params.tests, params.entry_point, params.float_tolerance)
    except ReferenceFault as error:
        return str(error)
    return None


def _read(rollout: Rollout, field: str, entry_field: str | None, tolerance: float | None) -> list[Test]:
    if field not in rollout.fields:
        raise ReferenceFault(f"the row has no {field!r}")
    entry = rollout.fields.get(entry_field) if entry_field else None
    return plans.read(rollout.fields[field], entry_point=str(entry) if entry else None, float_tolerance=tolerance)


@reward(
    "code.tests",
    check=check,
    example="correct: {use: code.tests, with: {tests: tests, score: all}, timeout: 300}",
)
class CodeTests:
    r"""The share of tests that a program passes, run in a sandbox; what is expected never enters it.

    Tests are told apart by their shape: `{"stdin": "1 2\n", "expected": "3\n"}` (with `float_tolerance`, or a `checker`
    that defines `check(stdin, expected, output)`), `{"call": "add", "args": [1, 2], "expected": 3}`, `"assert add(1, 2) == 3"`,
    HumanEval's `check(candidate)` with an entry point, or a pytest file that imports `solution`. A row without tests is not scored.

    Args:
        tests: The column with the tests.
        entry_point: The column that names the function, for tests of HumanEval's kind.
        language: What the program is written in.
        extract: `fenced` takes the last fenced block of the language (or of the last `<answer>`), `whole` the completion as it is.
        score: `pass_rate`, `all` (1 only if every test passes), or `weighted` (by the tests' `weight`).
        float_tolerance: How far floats may be off, absolutely or relatively; integers never.
        isolation: `fresh` runs each test in a process of its own; `shared` all of a program in one, several times faster.
        cpu_s: CPU seconds of each test.
        wall_s: Wall-clock seconds of each test; by default three times `cpu_s`.
        memory_mb: Memory of the program (MiB).
        backend: Which sandbox.
        image: What the program finds around it; by default what its language needs.
        slots: Programs at a time; by default twice the CPUs.
    """

    def __init__(
        self,
        *,
        tests: FieldName = "tests",
        entry_point: FieldName | None = None,
        language: str = "python",
        extract: Extraction = "fenced",
        score: Literal["pass_rate", "all", "weighted"] = "pass_rate",
        float_tolerance: Annotated[float, Ge(0)] | None = None,
        isolation: Literal["fresh", "shared"] = "fresh",
        cpu_s: Annotated[float, Gt(0)] = 5.0,
        wall_s: Annotated[float, Gt(0)] | None = None,
        memory_mb: Annotated[int, Gt(0)] = 512,
        backend: Backend = "auto",
        image: str | None = None,
        slots: Annotated[int, Ge(2)] | None = None,
    ) -> None:
        from rewardkit_sandbox.languages import find  # noqa: PLC0415

        self._language = find(language).name
        self._tests, self._entry_point, self._tolerance = tests, entry_point, float_tolerance
        self._extract, self._score, self._isolation = extract, score, isolation
        limits = Limits(cpu_s=cpu_s, wall_s=wall_s, memory_mb=memory_mb)
        default = "python" if self._language == "python" else "all" if self._language in ("rust", "go") else "languages"
        self._boxes = Boxes(Options(backend, image or default, slots, limits))

    async def __call__(self, rollouts: Sequence[Rollout], /) -> list[Score | Unscored]:
        """Score a batch."""
        return await self._boxes.score(rollouts, self._one)

    def close(self) -> None:
        """Ends the sandbox."""
        self._boxes.close()

    def _one(self, sandbox: Sandbox, rollout: Rollout) -> Score | Unscored:
        try:
            tests = _read(rollout, self._tests, self._entry_point, self._tolerance)
        except ReferenceFault as error:
            return Unscored("reference", str(error))
        source = program(rollout.completion_text, self._language, self._extract)
        if source is None:
            return Score(
                0.0,
                f"there is no {self._language} program in the completion",
                {"passed": 0.0, "tests": float(len(tests))},
            )
        prelude = rollout.prompt_text if any(isinstance(t, CodeTest) and t.entry_point for t in tests) else ""
        entry = next((t.entry_point for t in tests if isinstance(t, CodeTest) and t.entry_point), None)
        if entry and not _defines(source, entry):
            source = prelude + source
        elif entry and _parses(prelude):
            source = f"{prelude}\n{source}"
        try:
            outcomes = self._run(sandbox, Program(source, self._language), tests, prelude)
        except BadTests as error:
            return Unscored("reference", str(error))
        except ValueError as error:  # a language that can't be tested this way
            return Unscored("reference", str(error))
        return self._total(tests, outcomes)

    def _run(self, sandbox: Sandbox, source: Program, tests: list[Test], prelude: str) -> list[Outcome]:
        """All tests of a program: those that are cases in one request, the others by a judge."""
        cases: list[Any] = []
        spans: list[range] = []
        for test in tests:
            calls: Sequence[Any] = ()
            if isinstance(test, (OutputTest, CallTest)):
                calls = (test.case,)
            elif isinstance(test, AssertTest) and test.assertion is not None:
                calls = test.assertion.calls
            spans.append(range(len(cases), len(cases) + len(calls)))
            cases += calls
        stop = None
        if self._score == "all" and all(isinstance(test, OutputTest) and not test.checker for test in tests):
            stop = lambda index, run: not self._output(sandbox, tests[index], run)[0]  # type: ignore[arg-type]  # noqa: E731
        runs = sandbox.run(source, cases, isolation=self._isolation, stop=stop).runs if cases else ()
        outcomes: list[Outcome] = []
        for test, span in zip(tests, spans, strict=True):
            own = [runs[index] for index in span]
            if isinstance(test, OutputTest):
                outcomes.append(self._output(sandbox, test, own[0]))
            elif isinstance(test, CallTest):
                outcomes.append(_value(test, own[0]))
            elif isinstance(test, AssertTest) and test.assertion is not None:
                bad = next((run.note for run in own if not run.ok), "")
                held = test.assertion.holds(own)
                got = ", ".join(show(run.value, 60) for run in own)
                outcomes.append((held, "" if held else bad or f"{show(test.source, 100)[1:-1]}: got {got}"))
            else:
                outcomes.append(_judged(sandbox, source, test, prelude))
        return outcomes

    def _output(self, sandbox: Sandbox, test: OutputTest, run: Execution) -> Outcome:
        if not run.ok:
            return False, run.note + _last_line(run)
        if test.checker:
            return _checked(sandbox, test, run)
        if same_output(run.stdout, test.expected, float_tolerance=test.float_tolerance):
            return True, ""
        return False, f"expected {show(test.expected, 60)}, got {show(run.text, 60)}"

    def _total(self, tests: list[Test], outcomes: list[Outcome]) -> Score:
        passed = sum(good for good, _ in outcomes)
        weights = [test.weight if self._score == "weighted" else 1.0 for test in tests]
        value = sum(w for w, (good, _) in zip(weights, outcomes, strict=True) if good) / sum(weights)
        if self._score == "all":
            value = float(passed == len(tests))
        first = next(((number, why) for number, (good, why) in enumerate(outcomes) if not good), None)
        reason = f"{passed} of {len(tests)} tests passed"
        if first is not None:
            reason += f"; test {first[0]}: {first[1]}" if len(tests) > 1 else f": {first[1]}"
        return Score(value, reason[:500], {"passed": float(passed), "tests": float(len(tests))})


def _value(test: CallTest, run: Execution) -> Outcome:
    if not run.ok:
        return False, run.note
    if same_value(run.value, test.expected, types="json", float_tolerance=test.float_tolerance):
        return True, ""
    return False, f"expected {show(test.expected, 60)}, got {show(run.value, 60)}"


def _checked(sandbox: Sandbox, test: OutputTest, run: Execution) -> Outcome:
    """What the row's own checker says, run in a box of its own after the program is gone."""
    case = Call("check", (test.case.data.decode(), test.expected, run.text))
    done = sandbox.run(Program(test.checker or ""), [case]).runs[0]
    if done.raised in _UNUSABLE or not (done.ok or done.raised):
        raise BadTests(f"the checker failed: {done.note}")
    if done.raised:  # a checker that trips over the output refuses it
        return False, f"the checker {done.note} for {show(run.text, 60)}"
    return (True, "") if done.value is True else (False, f"the checker refused {show(run.text, 60)}")


def _judged(sandbox: Sandbox, source: Program, test: Test, prelude: str) -> Outcome:
    if isinstance(test, CodeTest):
        kind: Literal["script", "pytest"] = "pytest" if test.kind == "pytest" else "script"
        code = Tests(test.source, kind=kind, entry_point=test.entry_point, prelude=prelude if _parses(prelude) else "")
    else:
        code = Tests(test.source if isinstance(test, AssertTest) else "")
    verdict = sandbox.judge(source, code)
    return verdict.passed, "" if verdict.passed else verdict.reason


def _last_line(run: Execution) -> str:
    lines = run.stderr.decode("utf-8", "replace").strip().splitlines()
    return f": {lines[-1][:200]}" if lines else ""


def _parses(source: str) -> bool:
    try:
        compile(source, "prompt", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _defines(source: str, name: str) -> bool:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return f"def {name}(" in source
    return any(getattr(node, "name", None) == name for node in tree.body)
