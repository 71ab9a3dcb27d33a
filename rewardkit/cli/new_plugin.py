"""``rewardkit new-plugin``: writes the package of a new reward, with its test, ready to be installed."""

from __future__ import annotations

import keyword
import re
import shutil
import string
import tempfile
from importlib import resources
from pathlib import Path

import click

from rewardkit import __version__
from rewardkit.cli import load_registry
from rewardkit.errors import OutputError, UsageError

_NAME = re.compile(r"[a-z][a-z0-9]*(?:[_-][a-z0-9]+)*")
_MISLEADING = frozenset({"reward", "rewards", "rewardkit", "rollout", "plugin", "test", "tests", "testing"})


@click.command("new-plugin")
@click.argument("name")
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=".",
    help="The folder in which the package's folder is made; by default this one.",
)
def command(name: str, into: Path) -> None:
    """Write the package of a new reward plugin called NAME.

    Makes a folder rewardkit-NAME with a module of about ten lines, a test that inherits the contract of rewards, an example
    of its use and a README.
    """
    _check_name(name)
    folder = write_plugin(name, into)
    click.echo(f"Wrote {folder}:")
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        click.echo(f"  {file.relative_to(folder)}")
    reward = name.replace("-", "_")
    click.echo(
        f"\nNext:\n  cd {folder}\n  pip install -e '.[test]'\n  pytest\n  rewardkit plugins {reward}\n"
        f"\nThen write your reward in rewardkit_{reward}.py."
    )


def write_plugin(name: str, into: Path) -> Path:
    """Write the package of a plugin; all of it or nothing.

    Args:
        name: The reward's name; dashes and underscores mean the same.
        into: An existing folder.

    Returns:
        The package's folder.

    Raises:
        UsageError: There is something of that name already.
        OutputError: It can't be written.
    """
    reward = name.replace("-", "_")
    words = {
        "name": reward,
        "module": f"rewardkit_{reward}",
        "distribution": f"rewardkit-{name.replace('_', '-')}",
        "rewardkit_version": __version__,
    }
    files = {
        "pyproject.toml": "pyproject.toml.template",
        "README.md": "README.md.template",
        "reward.yaml": "reward.yaml.template",
        f"{words['module']}.py": "module.py.template",
        f"tests/test_{reward}.py": "test.py.template",
    }
    folder = into / words["distribution"]
    if folder.exists() or folder.is_symlink():
        raise UsageError(f"{folder} is there already, and nothing was written; choose another name or remove it")
    templates = resources.files("rewardkit.cli") / "templates" / "plugin"
    try:
        unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=into))
        try:
            for file, template in files.items():
                path = unfinished / file
                path.parent.mkdir(exist_ok=True)
                text = string.Template((templates / template).read_text("utf-8")).substitute(words)
                path.write_text(text, "utf-8")
            unfinished.chmod(0o755)  # mkdtemp's folders are their owner's alone
            unfinished.rename(folder)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
    except OSError as error:
        raise OutputError(f"{folder} can't be written: {error.strerror or error}") from error
    return folder


def _check_name(name: str) -> None:
    """Raises UsageError unless ``name`` can be a reward, a module and a distribution that nobody else offers."""
    reward = name.replace("-", "_")
    if not _NAME.fullmatch(name):
        plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_").lstrip("0123456789_")
        hint = f", such as {plain}" if plain and _NAME.fullmatch(plain) else ", such as palindrome or word_count"
        raise UsageError(
            f"{name!r} can't be the name of a reward: use lower-case letters, digits and single underscores, "
            f"starting with a letter{hint}"
        )
    if reward.startswith("rewardkit_"):
        raise UsageError(f"leave out 'rewardkit': rewardkit new-plugin {reward.removeprefix('rewardkit_')}")
    if keyword.iskeyword(reward) or reward in _MISLEADING:
        raise UsageError(f"{name!r} would be misread in Python or YAML; choose a name that says what is rewarded")
    registry = load_registry()
    taken = [offer for known in registry.names() if known.split(".")[0] == reward for offer in registry.rewards[known]]
    if taken:
        raise UsageError(
            f"{taken[0].provenance} offers {taken[0].type.name!r} already, and two plugins of one name clash; "
            "choose another name"
        )
