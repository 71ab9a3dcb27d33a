"""The commands that compile and run a program of each language. `images/` lists the packages that an image needs for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Language:
    """The commands that compile and run programs of one language."""

    name: str
    file: str
    """The name of the source file in the working directory."""
    run: tuple[str, ...]
    """The command; for compiled languages only its name and arguments, as the binary is handed over sealed."""
    compile: tuple[str, ...] = ()
    """The compile command, which leaves `program` in the working directory; empty for interpreted languages."""
    address_space: bool = True
    """True if the memory limit also limits the address space; False for runtimes that reserve far more than they use."""
    environment: Mapping[str, str] = field(default_factory=dict)


_RECIPES = (
    Language("python", "solution.py", ("/usr/bin/python3", "solution.py")),
    Language("c", "main.c", ("program",), ("/usr/bin/gcc", "-O2", "-std=gnu17", "-o", "program", "main.c", "-lm")),
    Language("cpp", "main.cpp", ("program",), ("/usr/bin/g++", "-O2", "-std=gnu++20", "-o", "program", "main.cpp")),
    Language("javascript", "main.js", ("/usr/bin/node", "--stack-size=4000", "main.js"), address_space=False),
    Language(
        "rust",
        "main.rs",
        ("program",),
        ("/usr/bin/rustc", "-O", "--edition", "2021", "-o", "program", "main.rs"),
    ),
    Language(
        "go",
        "main.go",
        ("program",),
        ("/usr/bin/go", "build", "-o", "program", "main.go"),
        address_space=False,
        environment={"GOCACHE": "/tmp/.cache", "GOFLAGS": "-p=1", "GOMAXPROCS": "2"},
    ),
    Language("bash", "main.sh", ("/bin/bash", "main.sh")),
)
LANGUAGES: Mapping[str, Language] = {recipe.name: recipe for recipe in _RECIPES}
_ALIASES = {
    "py": "python",
    "python3": "python",
    "c++": "cpp",
    "js": "javascript",
    "node": "javascript",
    "nodejs": "javascript",
}
_ALIASES |= {"rs": "rust", "golang": "go", "sh": "bash", "shell": "bash"}


def find(name: str) -> Language:
    """Return the language of a name or alias.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    key = name.lower()
    try:
        return LANGUAGES[_ALIASES.get(key, key)]
    except KeyError:
        raise ValueError(f"unknown language {name!r}; there are {', '.join(LANGUAGES)}") from None
