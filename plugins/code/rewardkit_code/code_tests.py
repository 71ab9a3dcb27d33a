"""`code.tests`: whether a program passes its tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt
from rewardkit_sandbox import BadTests, Call, Limits, Program, Sandbox

from rewardkit import FieldName, Rollout, Score, Unscored, reward
from rewardkit_code.execution.outcomes import TestOutcome, summarize
from rewardkit_code.execution.packages import hint, image_with, lacking_imports, lacks
from rewardkit_code.execution.running import TestPlan, run_tests
from rewardkit_code.program.extraction import Extraction, Language, program
from rewardkit_code.program.prelude import Prelude, missing_imports, put_before
from rewardkit_code.program.prompts import WholeProgram, with_prompt
from rewardkit_code.row_tests.formats import (
    ENTRY_COLUMNS,
    SETUP_COLUMNS,
    context,
    name_of_function,
    read_tests,
)
from rewardkit_code.row_tests.python_tests import needed_packages
from rewardkit_code.row_tests.types import AssertTest, CallTest, CodeTest, OutputTest, RowTests, UnusableTests
from rewardkit_code.sandboxes import SandboxClient, SandboxOptions, image_for

_TOLD_COLUMNS = (*ENTRY_COLUMNS, *SETUP_COLUMNS, "metadata", "starter_code")
"""Columns that say something about the tests, where a row has them."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """Settings for reading a row's tests."""

    columns: Sequence[str]
    entry_point: str | None
    float_tolerance: float | None
    language: Language
    image: str
    runs_test_code: bool = True
    """True if the sandbox can run test code, in addition to programs and calls."""

    def tests(self, fields: Mapping[str, Any]) -> RowTests:
        """Return the tests of a row.

        Raises:
            UnusableTests: They can't be used.
        """
        given = context(fields, self.entry_point, self.float_tolerance)
        parts = []
        for column in self.columns:
            if column not in fields:
                raise UnusableTests(f"the row has no column {column!r}")
            parts.append(read_tests(fields[column], given))
        found = parts[0]
        if len(parts) > 1:
            formats = " and ".join(dict.fromkeys(part.format for part in parts))
            found = RowTests([test for part in parts for test in part.tests], formats)
        self._refuse_unsupported(found)
        return found

    def _refuse_unsupported(self, found: RowTests) -> None:
        if self.language != "python" and not all(isinstance(test, OutputTest) for test in found.tests):
            raise UnusableTests(f"programs in {self.language} take tests with stdin only")
        for test in found.tests:
            is_code = isinstance(test, CodeTest) or (isinstance(test, AssertTest) and test.assertion is None)
            if is_code and not self.runs_test_code:
                raise UnusableTests(
                    "these tests are test code, which backend: remote can't run: use docker or bubblewrap, or tests with stdin or calls"
                )
            if isinstance(test, CodeTest) and test.kind == "pytest":
                for package in needed_packages(test.source):
                    if lacks(self.image, package):
                        missing = f"No module named '{package}'"
                        raise UnusableTests(
                            f"the tests import {package}, which the image {self.image!r} lacks{hint(missing, self.image)}"
                        )


def _reading(params: Any) -> _Reading:
    columns = (params.tests,) if isinstance(params.tests, str) else tuple(params.tests)
    image = params.image or image_for(params.language)
    runs_test_code = _options(params).runs_test_code()
    return _Reading(
        columns, params.entry_point, params.float_tolerance, params.language, image, runs_test_code=runs_test_code
    )


def _check(params: Any, rollout: Rollout) -> str | None:
    """Return the problem of a row's tests, or None. Runs nothing."""
    try:
        _reading(params).tests(rollout.fields)
    except UnusableTests as error:
        return str(error)
    return None


def _describe(params: Any, rollout: Rollout) -> str | None:
    """The format of the tests of a row, and the package that its program imports and the image lacks."""
    reading = _reading(params)
    try:
        found = reading.tests(rollout.fields)
    except UnusableTests:
        return None
    source = _program(rollout, found, params.language, params.extract)
    lacking = lacking_imports(source, reading.image) if source and params.language == "python" else []
    needs = "".join(f"; the program imports {name}, which {image_with(name, reading.image)!r} has" for name in lacking)
    return f"{found.format}{needs}"


def _options(params: Any) -> SandboxOptions:
    limits = Limits(cpu_s=params.cpu_s, wall_s=params.wall_s, memory_mb=params.memory_mb)
    return SandboxOptions(params.backend, params.image or image_for(params.language), params.slots, limits, params.url)


def _content(params: Any, rollout: Rollout) -> list[Any]:
    """The program and its tests; the prompt only where the tests or the program build on it."""
    fields = rollout.fields
    reading = _reading(params)
    told = [fields.get(name) for name in dict.fromkeys([*_TOLD_COLUMNS, *filter(None, [params.entry_point])])]
    raw = [fields.get(column) for column in reading.columns]
    try:
        found = reading.tests(fields)
    except UnusableTests as error:
        return [None, raw, told, str(error)]
    source = _program(rollout, found, params.language, params.extract)
    needs_prompt = any(
        isinstance(test, CodeTest) or (isinstance(test, CallTest) and not test.case.name) for test in found.tests
    )
    return [source, raw, told, rollout.prompt_text if needs_prompt else None]


def _program(rollout: Rollout, found: RowTests, language: Language, extraction: Extraction) -> str | None:
    names = found.names if language == "python" else []
    reads_input = any(isinstance(test, OutputTest) and test.case.stdin for test in found.tests)
    return program(rollout.completion_text, language, extraction, names, reads_input=reads_input)


@reward(
    "code.tests",
    may_be_missing=["entry_point"],
    deterministic=True,
    identity=lambda params: _options(params).identity(),
    content=_content,
    check=_check,
    describe=_describe,
    example="correct: {use: code.tests, with: {tests: tests, score: all}}",
)
class CodeTests:
    r"""The share of tests that a program passes, run in a sandbox. The expected values never enter it.

    Tests are recognized by their shape: `{"stdin": "1 2\n", "expected": "3\n"}` (with `float_tolerance`, or a `checker`
    that defines `check(stdin, expected, output)`), `{"call": "add", "args": [1, 2], "expected": 3}`, `"assert add(1, 2) == 3"`,
    HumanEval's `check(candidate)`, a pytest or unittest module, and the forms of LiveCodeBench, APPS, TACO, open-r1, verl and MBPP.
    A row whose tests can't be used is not scored.

    Args:
        tests: The column with the tests, or several columns whose tests count together.
        entry_point: The column that names the function under test, if a row has a value there; by default `entry_point`, `fn_name`,
            `func_name` or `function_name`.
        language: The language of the programs.
        extract: `last` or `first` of the fenced blocks of the language, or of the last `<answer>`; `defining`: the last one that
            defines what the tests use, with the earlier blocks that it needs; `whole`: the completion as it is.
        prelude: Imports that a Python program forgot: `leetcode` supplies names of `typing` and of common modules, `ListNode` and
            `TreeNode`, as LiveCodeBench's and verl's harnesses do; `typing` those of `typing` alone; `none` nothing.
        missing_package: What becomes of a program that imports a package which the image lacks and another image of
            `rewardkit sandbox build` has: `unscored`, or `score` it as failed.
        score: `pass_rate`, `all` (1 only if every test passes), or `weighted` (by the tests' `weight`).
        float_tolerance: How far floats may be off, absolutely or relatively; integers never.
        isolation: `fresh` runs each test in a process of its own; `shared` runs all tests of a program in one, several times faster.
        max_timeouts: After this many tests that run out of time, the others are not run and count as failed. With `null`, a program
            that hangs takes its time for every test.
        cpu_s: CPU seconds of each test.
        wall_s: Wall-clock seconds of each test; by default three times `cpu_s`.
        memory_mb: Memory of the program (MiB).
        backend: The sandbox: `auto` (Docker where an engine answers, else bubblewrap), `docker`, `bubblewrap`, `remote` (a service
            at `url`), or one that another distribution offers.
        image: What is installed around the program; by default the smallest image with its language.
        slots: The number of programs that run at a time; by default twice the CPUs.
        url: The address of a service with SandboxFusion's API, for `backend: remote`; its token is REWARDKIT_SANDBOX_TOKEN.
    """

    def __init__(
        self,
        *,
        tests: FieldName | list[FieldName] = "tests",
        entry_point: FieldName | None = None,
        language: Language = "python",
        extract: Extraction = "defining",
        prelude: Prelude = "leetcode",
        missing_package: Literal["unscored", "score"] = "unscored",
        score: Literal["pass_rate", "all", "weighted"] = "pass_rate",
        float_tolerance: Annotated[float, Ge(0)] | None = None,
        isolation: Literal["fresh", "shared"] = "fresh",
        max_timeouts: Annotated[int, Ge(1)] | None = 3,
        cpu_s: Annotated[float, Gt(0)] = 5.0,
        wall_s: Annotated[float, Gt(0)] | None = None,
        memory_mb: Annotated[int, Gt(0)] = 512,
        backend: str = "auto",
        image: str | None = None,
        slots: Annotated[int, Ge(1)] | None = None,
        url: str | None = None,
    ) -> None:
        columns = (tests,) if isinstance(tests, str) else tuple(tests)
        if not columns:
            raise ValueError("tests must name at least one column")
        self._image = image or image_for(language)
        limits = Limits(cpu_s=cpu_s, wall_s=wall_s, memory_mb=memory_mb)
        options = SandboxOptions(backend, self._image, slots, limits, url)
        self._reading = _Reading(
            columns, entry_point, float_tolerance, language, self._image, runs_test_code=options.runs_test_code()
        )
        self._language: Language = language
        self._extract, self._prelude, self._score = extract, prelude, score
        self._missing_package = missing_package
        self._isolation, self._max_timeouts = isolation, max_timeouts
        self._sandbox = SandboxClient(options)

    async def __call__(self, rollouts: Sequence[Rollout], /) -> list[Score | Unscored]:
        """Score a batch."""
        return await self._sandbox.score(rollouts, self._score_one)

    def close(self) -> None:
        """Leave the sandbox."""
        self._sandbox.close()

    def _score_one(self, sandbox: Sandbox, rollout: Rollout) -> Score | Unscored:
        try:
            found = self._reading.tests(rollout.fields)
            source = _program(rollout, found, self._language, self._extract)
            if source is None:
                metrics = {"passed": 0.0, "tests": float(len(found.tests))}
                return Score(0.0, f"there is no {self._language} program in the completion", metrics)
            found = _with_function(found, source, rollout.prompt_text)
            outcomes = run_tests(sandbox, self._plan(found, source, rollout.prompt_text))
        except (UnusableTests, BadTests) as error:
            return Unscored("reference", str(error))
        missing = next((outcome for outcome in outcomes if outcome.missing_package), None)
        if missing is not None and self._missing_package == "unscored":
            return Unscored("infra", self._without(str(missing.missing_package)))
        return self._total(found, outcomes, source)

    def _plan(self, found: RowTests, source: str, prompt: str) -> TestPlan:
        entry = next(
            (test.entry_point for test in found.tests if isinstance(test, CodeTest) and test.entry_point), None
        )
        whole = with_prompt(prompt, source, entry) if entry else WholeProgram(source)
        text, before = whole.source, whole.lines_before
        if self._language == "python":
            text, added = put_before(missing_imports(text, self._prelude, found.names), text)
            before += added
        return TestPlan(
            Program(text, self._language),
            found.tests,
            prompt_code=whole.prelude,
            announced=prompt,
            lines_before=before,
            image=self._image,
            isolation=self._isolation,
            stop_at_first=self._score == "all",
            max_overruns=self._max_timeouts,
        )

    def _without(self, package: str) -> str:
        other = image_with(package, self._image)
        return (
            f"the program imports {package}, which the image {self._image!r} lacks and {other!r} has: set image: {other}, "
            f"or missing_package: score to count such programs as failed"
        )

    def _total(self, found: RowTests, outcomes: Sequence[TestOutcome], source: str) -> Score:
        passed = sum(outcome.passed for outcome in outcomes)
        weights = [test.weight if self._score == "weighted" else 1.0 for test in found.tests]
        value = sum(w for w, outcome in zip(weights, outcomes, strict=True) if outcome.passed) / sum(weights)
        if self._score == "all":
            value = float(passed == len(outcomes))
        reason = summarize(outcomes, is_code=found.is_code)
        metrics = {"passed": float(passed), "tests": float(len(outcomes))}
        if any(outcome.missing_package for outcome in outcomes):
            metrics["missing_package"] = 1.0
        repeatable = not any(outcome.overrun for outcome in outcomes)
        output = next((outcome.output for outcome in outcomes if not outcome.passed and outcome.output), None)
        return Score(value, reason[:500], metrics, repeatable=repeatable, extracted=source, output=output)


def _with_function(found: RowTests, source: str, prompt: str) -> RowTests:
    """The tests with the name of the function where the row does not say which one they call.

    Raises:
        UnusableTests: Neither the prompt nor the program tells it.
    """
    if all(not isinstance(test, CallTest) or test.case.name for test in found.tests):
        return found
    name = name_of_function(source, prompt)
    if name is None:
        raise UnusableTests(
            "the tests call a function that the row does not name: give it in a column entry_point, or in the tests as fn_name"
        )
    tests = [
        replace(test, case=Call(name, test.case.args, test.case.kwargs))
        if isinstance(test, CallTest) and not test.case.name
        else test
        for test in found.tests
    ]
    return RowTests(tests, found.format)
