"""Imports that a program forgot and that the usual harnesses supply.

LiveCodeBench, verl and LeetCode itself put star imports before every program. Only what a program names and does not import is
supplied here, so that no name is shadowed and no program pays for modules that it does not use.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Literal

Prelude = Literal["typing", "leetcode", "none"]
_TYPING = frozenset(
    {
        "Any",
        "AnyStr",
        "Callable",
        "ClassVar",
        "Collection",
        "Deque",
        "DefaultDict",
        "Dict",
        "Final",
        "FrozenSet",
        "Generator",
    }
    | {
        "Generic",
        "Hashable",
        "Iterable",
        "Iterator",
        "List",
        "Literal",
        "Mapping",
        "MutableMapping",
        "NamedTuple",
        "NoReturn",
    }
    | {"Optional", "Protocol", "Sequence", "Set", "Sized", "Tuple", "Type", "TypedDict", "TypeVar", "Union", "cast"}
)
_MEMBERS: dict[str, frozenset[str]] = {
    "collections": frozenset({"Counter", "OrderedDict", "defaultdict", "deque", "namedtuple", "ChainMap"}),
    "heapq": frozenset({"heapify", "heappop", "heappush", "heappushpop", "heapreplace", "nlargest", "nsmallest"}),
    "bisect": frozenset({"bisect_left", "bisect_right", "insort", "insort_left", "insort_right"}),
    "math": frozenset(
        {
            "ceil",
            "comb",
            "cos",
            "dist",
            "exp",
            "fabs",
            "factorial",
            "floor",
            "gcd",
            "hypot",
            "inf",
            "isclose",
            "isqrt",
            "lcm",
        }
        | {"log", "log10", "log2", "nan", "perm", "pi", "prod", "sin", "sqrt", "tan", "trunc", "atan2"}
    ),
    "itertools": frozenset(
        {
            "accumulate",
            "chain",
            "combinations",
            "combinations_with_replacement",
            "compress",
            "count",
            "cycle",
            "dropwhile",
        }
        | {"groupby", "islice", "pairwise", "permutations", "product", "repeat", "starmap", "takewhile", "zip_longest"}
    ),
    "functools": frozenset(
        {"cache", "cached_property", "cmp_to_key", "lru_cache", "partial", "reduce", "total_ordering", "wraps"}
    ),
    "operator": frozenset({"add", "and_", "attrgetter", "itemgetter", "mul", "or_", "sub", "xor"}),
    "string": frozenset({"ascii_letters", "ascii_lowercase", "ascii_uppercase", "digits", "punctuation"}),
    "random": frozenset({"choice", "randint", "randrange", "shuffle"}),
    "copy": frozenset({"deepcopy"}),
    "dataclasses": frozenset({"dataclass", "field"}),
    "decimal": frozenset({"Decimal", "getcontext"}),
    "fractions": frozenset({"Fraction"}),
    "enum": frozenset({"Enum", "IntEnum", "auto"}),
    "datetime": frozenset({"timedelta"}),
    "io": frozenset({"StringIO", "BytesIO"}),
    "abc": frozenset({"ABC", "abstractmethod"}),
}
_MODULES = frozenset(_MEMBERS) | {"json", "os", "queue", "re", "statistics", "sys", "time", "typing"}
_NODES = {
    "ListNode": """class ListNode:
    def __init__(self, val=0, next=None):
        self.val = val
        self.next = next
""",
    "TreeNode": """class TreeNode:
    def __init__(self, val=0, left=None, right=None):
        self.val = val
        self.left = left
        self.right = right
""",
}
_NAME = re.compile(r"(?<![\w.])([A-Za-z_]\w*)")
_MODULE_USE = re.compile(r"(?<![\w.])([a-z]\w*)\s*\.")
_IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+)?import[ \t]+(\([^)]*\)|[^\n]*)", re.MULTILINE)
_DEFINED = re.compile(r"^[ \t]*(?:async[ \t]+def|def|class)[ \t]+(\w+)", re.MULTILINE)
_FUTURE = re.compile(r"^from __future__ import [^\n]*$", re.MULTILINE)


def missing_imports(source: str, prelude: Prelude, names: Iterable[str] = ()) -> str:
    """Return the lines to put before a Python program, or an empty text.

    Args:
        source: The program; it is not parsed, because a completion may be anything.
        prelude: `typing` supplies names of `typing`; `leetcode` also common modules, their members, `ListNode` and
            `TreeNode`; `none` nothing.
        names: The functions under test, plain or dotted, which the program itself has to define.
    """
    if prelude == "none":
        return ""
    tested = {part for name in names for part in name.split(".")}
    return "".join(f"{line}\n" for line in _lines(source, prelude, tested | set(_DEFINED.findall(source))))


def _lines(source: str, prelude: Prelude, own: set[str]) -> Iterator[str]:
    imported, starred = _imported(source)
    named = set(_NAME.findall(source)) - imported - own
    members = {"typing": _TYPING} if prelude == "typing" else {"typing": _TYPING, **_MEMBERS}
    for module, known in members.items():
        if module not in starred and (wanted := sorted(known & named)):
            yield f"from {module} import {', '.join(wanted)}"
    if prelude != "leetcode":
        return
    if modules := sorted(set(_MODULE_USE.findall(source)) & _MODULES - imported):
        yield f"import {', '.join(modules)}"
    if "bisect" in named and "bisect" not in modules and re.search(r"(?<![\w.])bisect\s*\(", source):
        yield "from bisect import bisect"
    for name, definition in _NODES.items():
        if name in named:
            yield definition.rstrip("\n")


def _imported(source: str) -> tuple[set[str], set[str]]:
    """The names that import statements bind, and the modules of star imports."""
    names, starred = set(), set()
    for found in _IMPORT.finditer(source):
        for part in re.sub(r"#[^\n]*", "", found[2]).strip("() \t").split(","):
            words = part.split()
            if words == ["*"]:
                starred.add(found[1])
            elif words:
                names.add(words[-1] if "as" in words else words[0].partition(".")[0])
    return names, starred


def put_before(lines: str, source: str) -> tuple[str, int]:
    """Return the source with lines before it, and how many lines its own are moved down by.

    Imports from `__future__` stay at the top, and leave an empty line where they stood.
    """
    if not lines:
        return source, 0
    future = "".join(f"{line}\n" for line in _FUTURE.findall(source))
    before = f"{future}{lines}"
    return before + _FUTURE.sub("", source), before.count("\n")
