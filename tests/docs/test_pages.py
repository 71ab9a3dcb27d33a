"""Every YAML file, command and program that the documentation and the README show is valid, and what is quick is run."""

import ast
import importlib.util
import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
import yaml

from rewardkit import Registry
from rewardkit.cli import cli, run
from rewardkit.config import parse_config
from rewardkit.train.config.reading import read_train_config

ROOT = Path(__file__).parents[2]
FAMILIES = {"code", "format", "length", "math", "reward_model"}


def load_generator():
    """Import docs/generate.py, which is in no package."""
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generator = load_generator()


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(path: Path) -> list[Block]:
    """The fenced blocks of a page, its generated parts included, but for the output of commands."""
    text = path.read_text(encoding="utf-8")
    if "<!-- generated: " in text:
        text = generator.fill_in(text)
    found = re.finditer(r"^```(\w+)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    name = str(path.relative_to(ROOT))
    return [Block(name, text.count("\n", 0, one.start()) + 1, one[1], one[2]) for one in found]


PAGES = [path for path in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in path.parts]
SHOWN = [*PAGES, *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md"))]
BLOCKS = [block for path in SHOWN for block in blocks_of(path)]


def lines_of(language: str, *starts: str) -> list[str]:
    """The distinct commands of all blocks of a language that begin with one of these words."""
    found = [
        line.removeprefix("$ ").split("  #")[0].strip()
        for block in BLOCKS
        if block.language == language
        for line in block.text.splitlines()
    ]
    return list(dict.fromkeys(line for line in found if line.startswith(starts)))


SHOWN_COMMANDS = lines_of("console", "rewardkit ")
COMMANDS = list(dict.fromkeys([*SHOWN_COMMANDS, *lines_of("bash", "rewardkit ")]))
NOT_RUN = ("rewardkit doctor", "rewardkit check examples/train/", "rewardkit judge ")
"""Commands that depend on the machine, on a service, or on a model that must be trained first."""


OUTPUTS = [
    (path.name, command, output)
    for path in PAGES
    for command, output in re.findall(
        r"```console\n\$ (rewardkit [^\n]*)\n```\n\n<!-- output -->\n```text\n(.*?)```",
        path.read_text("utf-8"),
        re.DOTALL,
    )
]


def yaml_blocks(kind: str) -> list[Block]:
    """The YAML blocks of one kind: reward files, training configurations, or others."""
    found = []
    for block in BLOCKS:
        if block.language == "yaml":
            keys = yaml.safe_load(block.text).keys()
            if kind == ("training" if "stage" in keys else "reward" if "version" in keys else "other"):
                found.append(block)
    return found


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder that holds the examples, as a user who has just cloned would see them."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REWARDKIT_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture(scope="module")
def registry():
    """The installed plugins."""
    found = Registry.load()
    if missing := FAMILIES - {name.split(".")[0] for name in found.names()}:
        pytest.skip(f"plugins are not installed: {', '.join(sorted(missing))}")
    return found


@pytest.mark.parametrize("block", yaml_blocks("reward"), ids=str)
def test_every_reward_file_is_valid(block, registry):
    """A YAML block with a version is a complete and valid reward file."""
    assert parse_config(block.text, registry, file=str(block)).component_names


@pytest.mark.parametrize("block", yaml_blocks("training"), ids=str)
def test_every_training_configuration_is_valid(block, folder, registry):
    """A YAML block with a stage is a complete and valid training configuration."""
    file = folder / "config.yaml"
    file.write_text(block.text)

    assert read_train_config(file, registry).config.stage == yaml.safe_load(block.text)["stage"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_can_be_parsed(command, folder):
    """Every option of a command exists, and every example that it names does."""
    _, name, *arguments = shlex.split(command.partition(" > ")[0])
    found = cli.get_command(click.Context(cli), name)

    found.make_context(name, arguments)
    named = [one for one in arguments if one.startswith("examples/") and "/work/" not in one]
    assert [one for one in named if not Path(one).exists()] == []


@pytest.mark.parametrize(
    "command",
    [
        one
        for one in SHOWN_COMMANDS
        if not one.startswith(NOT_RUN) and one not in {command for _, command, _ in OUTPUTS}
    ],
)
def test_every_quick_command_works(command, folder, registry):
    """A command that a console block shows ends with 0 in a folder that holds the examples. Those shown with output are run below."""
    try:
        code = run(shlex.split(command.partition(" > ")[0])[1:])
    except SystemExit as ended:  # how a plugin's command ends
        code = ended.code
    assert not code


@pytest.mark.parametrize("block", [one for one in BLOCKS if one.language == "python"], ids=str)
def test_every_python_block_runs(block, folder, registry):
    """A Python block runs as a program of its own."""
    exec(compile(block.text, str(block), "exec"), {"__name__": "shown"})  # noqa: S102 - our own text


def test_the_recipe_for_verl_works(folder, registry):
    """The Parquet file of the recipe is scored by the command of the recipe."""
    program = next(one for one in BLOCKS if one.page.endswith("recipes.md") and "verl.parquet" in one.text)
    exec(compile(program.text, str(program), "exec"), {})  # noqa: S102 - our own text
    command = next(one for one in COMMANDS if "verl.parquet" in one)

    assert run(shlex.split(command)[1:]) == 0


def test_rows_to_score_are_accepted(folder, registry):
    """Each shape of the page of data formats that holds a completion for scoring is read without a rejected row."""
    page = [one for one in BLOCKS if one.page == "docs/data-formats.md" and one.language == "jsonl"]
    rows = [line for one in page for line in one.text.splitlines() if "completion" in line and "answer" in line]
    Path("rows.jsonl").write_text("\n".join(rows) + "\n")

    assert len(rows) >= 4
    assert run(["check", "examples/mapping/reward.yaml", "--data", "rows.jsonl"]) == 0


def test_every_row_is_json():
    """Rows are JSON objects."""
    rows = [line for one in BLOCKS if one.language == "jsonl" for line in one.text.splitlines()]

    assert all(isinstance(json.loads(line), dict) for line in rows)
    assert len(rows) >= 10


def test_every_program_exists():
    """Benchmarks and scripts that a page names are there."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in SHOWN)
    programs = set(re.findall(r"python ((?:benchmarks|examples)/[\w/]+\.py)", text))

    assert len(programs) >= 8
    assert [one for one in programs if not (ROOT / one).is_file()] == []


def test_every_make_target_exists():
    """Targets of make that a page or a workflow names are in the Makefile."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in [*SHOWN, ROOT / ".github/workflows/ci.yml"])
    named = {
        one for words in re.findall(r"(?:`|\$ |run: |^)make ([a-z -]+)", text, re.MULTILINE) for one in words.split()
    }
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert named >= {"test", "docs", "demo", "test-fast"}
    assert named <= targets


def test_every_file_of_the_architecture_exists():
    """Files of this repository that the page of the architecture and the guide for contributors name are there."""
    text = "\n".join((ROOT / name).read_text() for name in ("docs/architecture.md", "CONTRIBUTING.md"))
    named = set(re.findall(r"`((?:rewardkit|sandbox|tests)/[\w/]+(?:\.py)?)`", text))

    assert len(named) >= 6
    assert [one for one in named if not (ROOT / one).exists()] == []


@pytest.mark.parametrize(("ours", "theirs"), [("LAYERS", "LAYERS"), ("FLOORS", "FLOORS")])
def test_the_picture_shows_the_tested_layers(ours, theirs):
    """The layers in the picture are those that the test of imports holds, in their order."""
    tree = ast.parse((ROOT / "tests" / "test_imports.py").read_text())
    values = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    tested = [set(level) - {"__main__"} for level in ast.literal_eval(values[theirs])]

    assert [set(names) for names, _ in reversed(getattr(generator, ours))] == [level for level in tested if level]


def plain(text: str) -> list[str]:
    """The words of an output without the lines of its tables."""
    return re.sub("[─━]+", " ", text).split()


@pytest.mark.parametrize(("page", "command", "output"), OUTPUTS)
def test_every_shown_output_is_what_the_command_prints(page, command, output, folder, registry, capsys, monkeypatch):
    """The output under a command is what that command prints today, whatever the width of the terminal."""
    monkeypatch.setenv("COLUMNS", "110")
    assert not run(shlex.split(command)[1:])

    assert plain(capsys.readouterr().out) == plain(output)


def test_the_commands_that_make_a_report_work_in_turn(folder, registry):
    """A page of a scored file is written by the two commands that the page on trust shows."""
    commands = [one for one in COMMANDS if one.startswith(("rewardkit score examples/demo", "rewardkit report scored"))]
    assert any(one.startswith("rewardkit report") for one in commands)

    for command in commands:
        assert not run(shlex.split(command.partition(" > ")[0])[1:])
    assert "<html" in Path("report.html").read_text(encoding="utf-8")
