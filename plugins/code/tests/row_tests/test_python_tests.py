"""Test code is read without running it."""

import pytest
from rewardkit_code.row_tests.python_tests import needed_packages, read_code
from rewardkit_code.row_tests.types import UnusableTests


@pytest.mark.parametrize(
    ("source", "kind", "names"),
    [
        ("def test_a():\n    assert add(1, 2) == 3\n", "pytest", ("add",)),
        ("from solution import add\ndef test_a():\n    assert add(1, 2) == 3\n", "pytest", ("add",)),
        ("from solution import *\ndef test_a():\n    assert add(1, 2) == 3\n", "pytest", ("add",)),
        ("import solution\ndef test_a():\n    assert solution.add(1, 2) == 3\n", "pytest", ("add",)),
        ("import unittest\nclass A(unittest.TestCase):\n    def test(self):\n        self.assertEqual(f(1), 2)\n", "pytest", ("f",)),
        ("x = add(1, 2)\nassert x == 3\n", "script", ("add",)),
        ("def check(candidate):\n    assert candidate(1)\ncheck(add)\n", "script", ("add",)),
    ],
)  # fmt: skip
def test_what_it_takes_from_the_program(source, kind, names):
    """Names that the tests use and do not define come from the program, whether they import them or not."""
    code = read_code(source, None)
    assert (code.kind, code.names) == (kind, names)


@pytest.mark.parametrize(
    "source",
    [
        "def test_a():\n    assert add(1) == 2\n",
        '"""Tests."""\nfrom __future__ import annotations\nimport os\ndef test_a():\n    assert add(1) == 2\n',
        "from solution import *\nimport numpy as np\n\ndef test_a():\n    assert add(1) == 2\n",
    ],
)
def test_a_module_keeps_its_lines(source):
    """The added import moves every line by the number that is told."""
    code = read_code(source, None)
    line = source.splitlines().index("    assert add(1) == 2")
    assert code.source.splitlines()[line + code.lines_added] == "    assert add(1) == 2"
    assert "from solution import add" in code.source
    compile(code.source, "tests", "exec")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def test_a(db):\n    assert add(1) == db\n", "the fixture 'db'"),
        ("class TestA:\n    def test_a(self, db):\n        assert add(1) == db\n", "the fixture 'db'"),
        ("def check(candidate):\n    assert candidate(1) == 2\n", "name the function"),
        ("x = add(1)\n", "asserts nothing"),
        ("assert add(1 ==\n", "does not compile"),
    ],
)
def test_unusable_test_code(source, says):
    """Test code that fails for every program is reported before any program runs."""
    with pytest.raises(UnusableTests, match=says):
        read_code(source, None)


@pytest.mark.parametrize(
    "source",
    [
        "def test_a(tmp_path, monkeypatch, capsys):\n    assert add(1)\n",
        "import pytest\n@pytest.fixture\ndef db():\n    return 1\ndef test_a(db):\n    assert add(db)\n",
        "import pytest\n@pytest.fixture(name='db')\ndef make():\n    return 1\ndef test_a(db):\n    assert add(db)\n",
        "import pytest\n@pytest.mark.parametrize(('a', 'b'), [(1, 2)])\ndef test_a(a, b):\n    assert add(a) == b\n",
        "from unittest.mock import patch\n@patch('os.getcwd')\ndef test_a(mocked):\n    assert add(1)\n",
        "def test_a(x=1):\n    assert add(x)\n",
        "import unittest\nclass TestA(unittest.TestCase):\n    def test_a(self):\n        assert add(1)\n",
        "class TestA:\n    @staticmethod\n    def test_a():\n        assert add(1)\n",
    ],
)
def test_arguments_that_something_gives(source):
    """Fixtures of pytest and of the module, parameters, patches and defaults are no missing fixtures."""
    assert read_code(source, None).kind == "pytest"


def test_needed_packages():
    """Third-party packages count wherever they are imported, except where the test code handles their absence."""
    source = (
        "import os, numpy as np\nfrom pandas.testing import x\nfrom solution import f\nimport pytest\n"
        "try:\n    import torch\nexcept ImportError:\n    torch = None\ndef test():\n    import scipy.stats\n"
    )
    assert needed_packages(source) == ["numpy", "pandas", "scipy"]


def test_imports_of_scripts_become_optional():
    """A script still runs without a package that none of its assertions reaches."""
    code = read_code("import numpy as np\nfrom scipy import (\n    stats,\n)\nassert f(1) == 2\n", None)
    assert code.source.splitlines() == [
        "np = _import_if_there('numpy')",
        "stats = _import_if_there('scipy', 'stats')",
        "",
        "",
        "assert f(1) == 2",
    ]
    space = {}
    exec(code.prelude, space)  # noqa: S102 - code of ours
    missing = space["_import_if_there"]("surely_not_there")
    with pytest.raises(ModuleNotFoundError, match="surely_not_there"):
        missing.anything()
    assert space["_import_if_there"]("os", "path") is __import__("os").path
    assert space["_import_if_there"]("os.path", root=True) is __import__("os")
