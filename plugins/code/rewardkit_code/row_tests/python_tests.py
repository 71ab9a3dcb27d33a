"""Analyses test code in Python without running it: its imports, the names that it takes from the program, and missing names.

Test code comes from the row's author. The host parses and compiles it, and never runs it.
"""

from __future__ import annotations

import ast
import builtins
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from rewardkit_code.row_tests.types import CodeTest, UnusableTests

PROGRAM_MODULE = "solution"
"""The module as which test code imports the program."""
_WARNINGS = threading.Lock()
_PYTEST_FIXTURES = frozenset(
    {"request", "tmp_path", "tmp_path_factory", "tmpdir", "tmpdir_factory", "monkeypatch", "caplog", "recwarn"}
    | {"capsys", "capfd", "capsysbinary", "capfdbinary", "pytestconfig", "doctest_namespace"}
    | {"record_property", "record_xml_attribute", "record_testsuite_property"}
)
_PRESENT = frozenset({"pytest", "_pytest", PROGRAM_MODULE}) | sys.stdlib_module_names
_OPTIONAL_IMPORT = '''
class _NotInImage:
    """A package that is missing: the first use of it says so."""

    def __init__(self, module):
        self.__dict__["module"] = module

    def _refuse(self, *args, **kwargs):
        raise ModuleNotFoundError("No module named %r" % self.__dict__["module"], name=self.__dict__["module"])

    __getattr__ = __setattr__ = __call__ = __iter__ = __getitem__ = __len__ = __bool__ = _refuse


def _import_if_there(module, member=None, root=False):
    import importlib
    import sys

    try:
        loaded = importlib.import_module(module)
        if root:
            return sys.modules[module.partition(".")[0]]
        if member is None:
            return loaded
        return getattr(loaded, member) if hasattr(loaded, member) else importlib.import_module(f"{module}.{member}")
    except ImportError:
        return _NotInImage(module.partition(".")[0])
'''


def syntax_fault(source: str) -> str:
    """Return why a source does not compile, or an empty text."""
    try:
        # Warning filters belong to the whole process: two threads that set them at once could leave them set.
        with _WARNINGS, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(source, "tests", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"{error}" or type(error).__name__
    return ""


def parse(source: str) -> ast.Module:
    """Return the syntax tree of a source that compiles, without warnings."""
    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source)


@lru_cache(maxsize=1024)  # the completions of one prompt share their tests
def read_code(source: str, entry_point: str | None, setup: str = "") -> CodeTest:
    """Return test code ready to run.

    Args:
        source: HumanEval's `check(candidate)`, a pytest or unittest module, or a script with assertions.
        entry_point: The function that is handed to `check(candidate)`, if the row names one.
        setup: Lines to run before it.

    Raises:
        UnusableTests: It does not compile, asserts nothing, or needs what is not there.
    """
    if fault := syntax_fault(source):
        raise UnusableTests(f"the test code does not compile: {fault}")
    if setup and (fault := syntax_fault(setup)):
        raise UnusableTests(f"the set-up code does not compile: {fault}")
    tree = parse(source)
    module = TestCode(tree, setup)
    if module.defines_check:
        if module.calls_check:
            return _script(source, None, module, setup)
        if entry_point:
            return _script(source, entry_point, module, setup)
        if not module.has_tests:
            raise UnusableTests("the tests define check(candidate); name the function in a column entry_point")
    if module.has_tests:
        return _module(source, module, setup)
    if not module.asserts:
        raise UnusableTests("the test code asserts nothing")
    return _script(source, None, module, setup)


@dataclass(frozen=True)
class TestCode:
    """Properties of test code, from its syntax tree."""

    tree: ast.Module
    setup: str = ""

    __test__ = False  # pytest: no test class

    @property
    def asserts(self) -> bool:
        """True if the test code can fail at all."""
        return any(
            isinstance(node, (ast.Assert, ast.Raise))
            or (isinstance(node, ast.Attribute) and node.attr.startswith("assert"))
            or (isinstance(node, ast.Name) and node.id.startswith("assert"))
            for node in ast.walk(self.tree)
        )

    @property
    def defines_check(self) -> bool:
        """True if the test code defines HumanEval's `check`."""
        return any(isinstance(node, ast.FunctionDef) and node.name == "check" for node in self.tree.body)

    @property
    def calls_check(self) -> bool:
        """True if the test code calls its `check`."""
        return any(
            isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "check"
            for statement in self.tree.body
            if not isinstance(statement, (ast.FunctionDef, ast.ClassDef))
            for node in ast.walk(statement)
        )

    @property
    def has_tests(self) -> bool:
        """True if pytest would collect tests from it."""
        return any(_is_test(node) for node in ast.walk(self.tree))

    @property
    def bound(self) -> set[str]:
        """All names that the test code binds."""
        return _bound(self.tree) | (_bound(parse(self.setup)) if self.setup else set())

    @property
    def used(self) -> set[str]:
        """All names that the test code reads."""
        return {
            node.id for node in ast.walk(self.tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        }

    @property
    def free(self) -> list[str]:
        """The names that it reads, does not bind, and that are no builtins."""
        return sorted(self.used - self.bound - set(dir(builtins)) - {"__file__"})

    @property
    def imported_from_program(self) -> list[str]:
        """The names that it imports from the program by name."""
        return [
            alias.name
            for node in ast.walk(self.tree)
            if isinstance(node, ast.ImportFrom) and node.module == PROGRAM_MODULE
            for alias in node.names
            if alias.name != "*"
        ]

    @property
    def attributes_of_program(self) -> list[str]:
        """The attributes that it reads of the module `solution`."""
        names = {
            alias.asname or alias.name
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Import)
            for alias in node.names
            if alias.name == PROGRAM_MODULE
        }
        return [
            node.attr
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names
        ]


def _is_test(node: ast.AST) -> bool:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return node.name.startswith("test")
    return isinstance(node, ast.ClassDef) and any("TestCase" in ast.unparse(base) for base in node.bases)


def _bound(tree: ast.Module) -> set[str]:
    bound: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            bound.add(node.name)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            bound.add(node.id)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.alias):
            bound.add((node.asname or node.name).partition(".")[0])
        elif (isinstance(node, ast.ExceptHandler) and node.name) or (
            isinstance(node, (ast.MatchAs, ast.MatchStar)) and node.name
        ):
            bound.add(node.name)
    return bound


def _script(source: str, entry_point: str | None, module: TestCode, setup: str) -> CodeTest:
    free = module.free
    lines_added = 0
    rewritten = _with_optional_imports(source, module.tree)
    prelude = _OPTIONAL_IMPORT if rewritten != source else ""
    if setup:  # it may build on the program, so that it runs with the tests
        own = TestCode(parse(setup))
        free = sorted({*free, *own.free} - module.bound)
        lines_added = setup.count("\n") + 1
        rewritten = f"{setup}\n{rewritten}"
    standard = [name for name in free if name in sys.stdlib_module_names]
    names = tuple(name for name in free if name not in standard)
    if standard:
        prelude = f"import {', '.join(standard)}\n{prelude}"
    return CodeTest(
        rewritten,
        "script",
        entry_point and entry_point.replace("()", ""),
        names=names,
        undefined=frozenset(names),
        prelude=prelude,
        lines_added=lines_added,
    )


def _with_optional_imports(source: str, tree: ast.Module) -> str:
    """Return the same lines, with top-level imports of third-party packages that fail only when the package is used.

    Test code often imports numpy for a comparison that most of its cases do not reach.
    """
    lines = source.split("\n")
    for node in tree.body:
        if not isinstance(node, (ast.Import, ast.ImportFrom)) or _shares_its_lines(node, tree):
            continue
        assignments = list(_optional(node))
        if assignments and node.end_lineno is not None:
            lines[node.lineno - 1] = "; ".join(assignments)
            for number in range(node.lineno, node.end_lineno):
                lines[number] = ""
    return "\n".join(lines)


def _shares_its_lines(node: ast.stmt, tree: ast.Module) -> bool:
    end = node.end_lineno or node.lineno
    return any(
        other is not node and other.lineno <= end and (other.end_lineno or other.lineno) >= node.lineno
        for other in tree.body
    )


def _optional(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """Assignments in the place of an import; none where the import must stay as it is."""
    if isinstance(node, ast.ImportFrom):
        root = (node.module or "").partition(".")[0]
        if node.level or root in _PRESENT or any(alias.name == "*" for alias in node.names):
            return
        for alias in node.names:
            yield f"{alias.asname or alias.name} = _import_if_there({node.module!r}, {alias.name!r})"
        return
    if any(alias.name.partition(".")[0] in _PRESENT for alias in node.names):
        return
    for alias in node.names:
        if alias.asname:
            yield f"{alias.asname} = _import_if_there({alias.name!r})"
        else:
            yield f"{alias.name.partition('.')[0]} = _import_if_there({alias.name!r}, root=True)"


def _module(source: str, module: TestCode, setup: str) -> CodeTest:
    """Return a pytest or unittest module with imports of the names that it uses from the program, which some authors omit."""
    if missing := _missing_fixture(module.tree):
        raise UnusableTests(
            f"the test {missing[0]} asks for the fixture {missing[1]!r}, which the test code does not define"
        )
    standard = [name for name in module.free if name in sys.stdlib_module_names or name == "pytest"]
    names = [name for name in module.free if name not in standard]
    added = [f"import {', '.join(standard)}"] if standard else []
    added += [f"from {PROGRAM_MODULE} import {', '.join(names)}"] if names else []
    lines = _without_needless_imports(source, module).split("\n")
    count = 0
    if setup:
        lines[:0] = setup.split("\n")
        count = setup.count("\n") + 1
    if added:
        at = _after_future_imports(module.tree)
        lines.insert(at + count, "; ".join(added))
        count += 1
    known = [*module.imported_from_program, *module.attributes_of_program]
    return CodeTest(
        "\n".join(lines),
        "pytest",
        names=tuple(dict.fromkeys([*known, *names])),
        undefined=frozenset(names),
        lines_added=count,
    )


def _after_future_imports(tree: ast.Module) -> int:
    """The number of lines that must stay at the top: a docstring and imports from `__future__`."""
    last = 0
    for number, node in enumerate(tree.body):
        is_docstring = number == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not is_docstring and not (isinstance(node, ast.ImportFrom) and node.module == "__future__"):
            break
        last = node.end_lineno or last
    return last


def _without_needless_imports(source: str, module: TestCode) -> str:
    """Return the same lines without star imports of the program and without unused imports of third-party packages."""
    used = module.used
    lines = source.split("\n")
    for node in module.tree.body:
        if not isinstance(node, (ast.Import, ast.ImportFrom)) or _shares_its_lines(node, module.tree):
            continue
        roots = (
            [(node.module or "").partition(".")[0]]
            if isinstance(node, ast.ImportFrom)
            else [alias.name.partition(".")[0] for alias in node.names]
        )
        is_star = isinstance(node, ast.ImportFrom) and node.names[0].name == "*"
        needless = (is_star and roots == [PROGRAM_MODULE]) or (
            not is_star
            and not set(roots) & _PRESENT
            and not any((alias.asname or alias.name).partition(".")[0] in used for alias in node.names)
        )
        if needless and node.end_lineno is not None:
            for number in range(node.lineno - 1, node.end_lineno):
                lines[number] = ""
    return "\n".join(lines)


def needed_packages(source: str) -> list[str]:
    """Return the third-party packages that test code imports, except those whose absence it handles itself."""
    tree = parse(source)
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.Try)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found: list[str] = []
    for node in ast.walk(tree):
        if id(node) in guarded:
            continue
        if isinstance(node, ast.Import):
            found += [alias.name.partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.append((node.module or "").partition(".")[0])
    return [name for name in dict.fromkeys(found) if name not in _PRESENT]


def _missing_fixture(tree: ast.Module) -> tuple[str, str] | None:
    """The first test with an argument that no fixture and no parameter gives, and the argument."""
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    known = set(_PYTEST_FIXTURES)
    known |= {node.name for node in functions if any("fixture" in ast.unparse(each) for each in node.decorator_list)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and "fixture" in ast.unparse(node.func):
            known |= {
                ast.literal_eval(k.value)
                for k in node.keywords
                if k.arg == "name" and isinstance(k.value, ast.Constant)
            }
        if isinstance(node, ast.Name) and node.id == "pytest_plugins":
            return None
    for name, function, decorators in _collected(tree):
        if any("parametrize" not in each and "mark" not in each for each in decorators):
            continue  # it may give the arguments itself
        given = set(re.findall(r"\w+", " ".join(decorators)))
        arguments = function.args.posonlyargs + function.args.args
        arguments = arguments[1:] if "." in name else arguments
        arguments = arguments[: len(arguments) - len(function.args.defaults)]
        for argument in arguments:
            if argument.arg not in known and argument.arg not in given:
                return name, argument.arg
    return None


def _collected(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef, list[str]]]:
    """The tests of a module that pytest calls with fixtures: name, function, decorators as text."""
    marks = [
        ast.unparse(node) for node in tree.body if isinstance(node, ast.Assign) and "pytestmark" in ast.unparse(node)
    ]
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test"):
            yield node.name, node, [*map(ast.unparse, node.decorator_list), *marks]
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test") and not node.bases:
            outer = [*map(ast.unparse, node.decorator_list), *marks]
            for inner in node.body:
                if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef)) and inner.name.startswith("test"):
                    if any(ast.unparse(each) in ("staticmethod", "classmethod") for each in inner.decorator_list):
                        continue
                    yield f"{node.name}.{inner.name}", inner, [*map(ast.unparse, inner.decorator_list), *outer]
