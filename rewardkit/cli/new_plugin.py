"""``rewardkit new-plugin``: writes the package of a new reward with its tests, ready to be installed and published."""

from __future__ import annotations

import importlib.metadata
import json
import keyword
import re
import shutil
import string
import tempfile
import time
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
    help="The folder in which to create the package's folder.  [default: the current folder]",
)
def command(name: str, into: Path) -> None:
    """Write the package of a new reward plugin called NAME.

    Creates a folder rewardkit-NAME with a module of about ten lines, tests that inherit the contract of rewards, an example
    configuration, a README, a licence (MIT), a .gitignore and a GitHub workflow that runs the tests.
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
    """Write the package of a plugin. If anything fails, nothing is left behind.

    Args:
        name: The reward's name; dashes and underscores are equivalent.
        into: An existing folder.

    Returns:
        The package's folder.

    Raises:
        UsageError: The package's folder exists already.
        OutputError: The folder can't be written.
    """
    reward = name.replace("-", "_")
    words = {
        "name": reward,
        "module": f"rewardkit_{reward}",
        "distribution": f"rewardkit-{name.replace('_', '-')}",
        "rewardkit_version": __version__,
        "rewardkit_source": _rewardkit_source(),
        "year": str(time.gmtime().tm_year),
    }
    files = {
        "pyproject.toml": "pyproject.toml.template",
        "README.md": "README.md.template",
        "LICENSE": "LICENSE.template",
        ".gitignore": "gitignore.template",
        ".github/workflows/test.yml": "workflow.yml.template",
        "reward.yaml": "reward.yaml.template",
        f"{words['module']}.py": "module.py.template",
        f"tests/test_{reward}.py": "test.py.template",
    }
    folder = into / words["distribution"]
    if folder.exists() or folder.is_symlink():
        raise UsageError(f"{folder} exists already; nothing was written. Choose another name or remove the folder")
    templates = resources.files("rewardkit.cli") / "templates" / "plugin"
    try:
        unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=into))
        try:
            for file, template in files.items():
                path = unfinished / file
                path.parent.mkdir(parents=True, exist_ok=True)
                text = string.Template((templates / template).read_text("utf-8")).substitute(words)
                path.write_text(text, "utf-8")
            unfinished.chmod(0o755)  # mkdtemp creates folders that only the owner can read.
            unfinished.rename(folder)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
    except OSError as error:
        raise OutputError(f"{folder} can't be written: {error.strerror or error}") from error
    return folder


def _rewardkit_source() -> str:
    """Return the requirement that the workflow installs: the release, or the repository that the installed version came from."""
    try:
        found = importlib.metadata.distribution("rewardkit")
        origin = json.loads(found.read_text("direct_url.json") or "{}")
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return "rewardkit"
    if "vcs_info" in origin:
        return f"rewardkit @ git+{origin['url']}@{origin['vcs_info']['commit_id']}"
    urls = dict(item.split(", ", 1) for item in found.metadata.get_all("Project-URL") or () if ", " in item)
    repository = next((urls[name] for name in ("Repository", "Source", "Homepage") if name in urls), "")
    return f"rewardkit @ git+{repository}" if origin and repository else "rewardkit"


def _check_name(name: str) -> None:
    """Check that a name is valid for a reward, a module and a distribution, and is not taken.

    Args:
        name: The name.

    Raises:
        UsageError: The name is not valid, or an installed plugin offers a reward of that name.
    """
    reward = name.replace("-", "_")
    if not _NAME.fullmatch(name):
        plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_").lstrip("0123456789_")
        hint = f", such as {plain}" if plain and _NAME.fullmatch(plain) else ", such as palindrome or word_count"
        raise UsageError(
            f"{name!r} can't be the name of a reward: use lower-case letters, digits and single underscores, "
            f"starting with a letter{hint}"
        )
    if reward.startswith("rewardkit_"):
        raise UsageError(f"leave out the prefix 'rewardkit': rewardkit new-plugin {reward.removeprefix('rewardkit_')}")
    if keyword.iskeyword(reward) or reward in _MISLEADING:
        raise UsageError(
            f"{name!r} would be misread in Python or YAML; choose a name that says what the reward measures"
        )
    registry = load_registry()
    taken = [offer for known in registry.names() if known.split(".")[0] == reward for offer in registry.rewards[known]]
    if taken:
        raise UsageError(
            f"{taken[0].provenance} offers {taken[0].type.name!r} already, and two plugins of one name clash; "
            "choose another name"
        )
