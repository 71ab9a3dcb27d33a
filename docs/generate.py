# ruff: noqa: INP001
"""Makes the generated parts of the documentation.

A page asks for a part with a comment on a line of its own, ``<!-- generated: NAME ARGUMENT… -->``. Each part is made at build
time from the installed package and its plugins, so it describes what is installed. ``make docs`` builds the site.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner

from rewardkit.cli.plugins import type_text
from rewardkit.config.params import params_schema
from rewardkit.registry import Registry

ROOT = Path(__file__).parents[1]
_PART = re.compile(r"^<!-- generated: (?P<words>.+?) -->$", re.MULTILINE)


def fill_in(markdown: str) -> str:
    """Return a page with its generated parts filled in.

    Args:
        markdown: The page as written.

    Returns:
        The page, with each comment that asks for a part replaced by that part.

    Raises:
        KeyError: A comment names a part that does not exist.
    """
    return _PART.sub(lambda found: part(*found["words"].split()), markdown)


def part(name: str, *arguments: str) -> str:
    """Return one generated part as Markdown.

    Args:
        name: One of ``PARTS``.
        *arguments: What the part is about, such as a stage or a family of rewards.
    """
    return "\n".join(PARTS[name](*arguments))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(_cell(text) for text in row)} |"
    yield ""


def _cell(text: str) -> str:
    """A table's cell: one line, with bars that do not end it."""
    return " ".join(text.split()).replace("``", "`").replace("|", "\\|")


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def rewards(family: str) -> Iterator[str]:
    """Every reward of a family: description, parameters, requirements and an example."""
    for told in installed_rewards():
        if told["name"].split(".")[0] != family:
            continue
        yield f"### `{told['name']}`\n"
        yield f"{_markdown(told['doc'])}\n"
        schema = told["params"]
        required = schema.get("required", [])
        yield from _table(
            ("Parameter", "Type", "Default", "Meaning"),
            (
                (
                    _code(key),
                    type_text(value, schema),
                    "*required*" if key in required else _code(json.dumps(value.get("default"))),
                    value.get("description", ""),
                )
                for key, value in schema.get("properties", {}).items()
            ),
        )
        limit = f", with {told['timeout_s']:g} s for each rollout" if told["timeout_s"] else ""
        reads = ", ".join(map(_code, told["needs"])) or "only the prompt and the completion"
        yield f"Reads {reads}. Runs on the `{told['executor']}` executor, one {told['scope']} at a time{limit}.\n"
        yield "```yaml\nversion: 1\ncomponents:"
        yield from (f"  {line}" for line in told["example"].splitlines())
        yield "```\n"


def installed_rewards() -> list[dict[str, Any]]:
    """Return what ``rewardkit plugins --json`` tells about every installed reward."""
    from rewardkit.cli.plugins import command

    done = CliRunner().invoke(command, ["--json"], catch_exceptions=False)
    found: list[dict[str, Any]] = json.loads(done.stdout)["rewards"]
    return found


def _markdown(doc: str) -> str:
    """A docstring as Markdown."""
    return doc.replace("``", "`")


def keys(stage: str) -> Iterator[str]:
    """Every key of a training configuration."""
    from rewardkit.train.config.reference import keys_of
    from rewardkit.train.config.stages import STAGES

    rows = []
    for key in keys_of(STAGES[stage].config_class()):
        is_section = "section" in key.kind
        default = "" if is_section else _code(key.default.encode("unicode_escape").decode()) or "*required*"
        kind = "" if is_section and key.default != "null" else key.kind
        rows.append((f"**`{key.name}`**" if is_section else _code(key.name), kind, default, _markdown(key.meaning)))
    yield from _table(("Key", "Type", "Default", "Meaning"), rows)


def stages() -> Iterator[str]:
    """A link to the page of every stage."""
    from rewardkit.train.config.stages import STAGES

    for name in STAGES:
        yield f"- [`{name}`]({name.replace('_', '-')}.md)"


def metrics() -> Iterator[str]:
    """Every metric of a run with its unit."""
    from rewardkit.train.monitoring import metric_descriptions as known

    yield from _table(
        ("Metric", "Unit", "Meaning"),
        ((_code(name), told.unit, told.text) for name, told in known.DESCRIPTIONS.items()),
    )


def component_metrics() -> Iterator[str]:
    """The metrics that each component of the reward has."""
    from rewardkit.train.monitoring import metric_descriptions as known

    yield from _table(
        ("Metric", "Unit", "Meaning"),
        (
            (_code("component/NAME" + (f"/{name}" if name else "")), told.unit, told.text)
            for name, told in known.COMPONENT.items()
        ),
    )


def monitors() -> Iterator[str]:
    """Every monitor with its default bound."""
    from rewardkit.train.config.reference import keys_of
    from rewardkit.train.config.stages import STAGES

    found = [key for key in keys_of(STAGES["ppo"].config_class()) if key.name.startswith("monitors.")]
    yield from _table(
        ("Key", "Default", "Meaning"), ((_code(key.name), _code(key.default), _markdown(key.meaning)) for key in found)
    )


def algorithms() -> Iterator[str]:
    """Every named algorithm of policy updates and what it is made of."""
    from rewardkit.train.config.algorithms import PRESETS

    yield from _table(
        ("`algorithm.use`", "Advantage", "Reduction", "Loss", "Settings of the loss"),
        (
            (
                _code(name),
                _code(preset.advantage),
                _code(preset.reduction),
                _code(preset.loss),
                ", ".join(_code(f"{key}: {value:g}") for key, value in preset.settings.items()) or "its defaults",
            )
            for name, preset in PRESETS.items()
        ),
    )


def policy_losses() -> Iterator[str]:
    """Every built-in policy loss with its settings."""
    from rewardkit.train.config.algorithms import loss_type
    from rewardkit.train.losses.policy_loss import POLICY_LOSSES

    for name, target in POLICY_LOSSES.items():
        summary = " ".join((inspect.getdoc(target) or "").partition("\n\n")[0].split())
        yield f"**`{name}`**: {_markdown(summary)}\n"
        settings = params_schema(loss_type(name)).get("properties", {})
        for key, about in settings.items():
            default = json.dumps(about.get("default"))
            yield f"- `{key}` (default {default}): {_markdown(about.get('description', ''))}"
        yield ""


def commands() -> Iterator[str]:
    """The help of every command, of the core and of plugins."""
    for name, command, source in core_and_plugin_commands():
        yield from _command(f"rewardkit {name}", command, source, 2)


def core_and_plugin_commands() -> Iterator[tuple[str, click.Command, str]]:
    """Every command with its name and, for a plugin's, the distribution it comes from."""
    import rewardkit.cli

    group = next(item for item in vars(rewardkit.cli).values() if isinstance(item, click.Group))
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if command is not None:
            yield name, command, ""
    for name, offers in sorted(Registry.load().commands.items()):
        command, provenance = offers[0]
        yield name, command, str(provenance)


def _command(name: str, command: click.Command, source: str, level: int) -> Iterator[str]:
    yield f"{'#' * level} `{name}`\n"
    if source:
        yield f"From {source}.\n"
    parent, _, own = name.rpartition(" ")
    context = click.Context(command, info_name=own, parent=click.Context(click.Group(parent), info_name=parent))
    context.max_content_width = context.terminal_width = 100
    yield f"```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            if (child := command.get_command(context, inner)) is not None:
                yield from _command(f"{name} {inner}", child, "", level + 1)


def public_names(package: str = "rewardkit") -> Iterator[str]:
    """The documentation of every public name of a package, from its docstrings."""
    public = importlib.import_module(package)
    yield "```{eval-rst}"
    yield f".. py:currentmodule:: {package}\n"
    for name in public.__all__:
        if name.startswith("__"):
            continue
        value = getattr(public, name)
        if isinstance(value, types.GenericAlias):  # its docstring is that of the type
            yield f".. py:data:: {name}\n   :value: {value}\n"
            continue
        kind = "class" if inspect.isclass(value) else "function" if inspect.isroutine(value) else "data"
        yield f".. auto{kind}:: {package}.{name}\n"
    yield "```\n"


def module(name: str, *left_out: str) -> Iterator[str]:
    """The documentation of a module and everything in it, from its docstrings."""
    yield "```{eval-rst}"
    yield f".. automodule:: {name}"
    yield "   :no-index:"
    if left_out:
        yield f"   :exclude-members: {', '.join(left_out)}"
    yield "```\n"


def file(path: str) -> Iterator[str]:
    """The content of a file of the repository, as a block of code."""
    text = (ROOT / path).read_text(encoding="utf-8")
    yield f"```{Path(path).suffix.removeprefix('.')}\n{text.rstrip()}\n```\n"


LAYERS: Sequence[tuple[Sequence[str], str]] = (
    (("cli",), "one module per command"),
    (("testing",), "contracts that plugins inherit in their tests"),
    (("train",), "the stages of training: the floors below"),
    (("serve", "toolkit", "view"), "rewards over HTTP, what plugins may use, rollouts in the browser"),
    (("integrations", "insight"), "rewards in other libraries, and what is learned about rewards"),
    (("scoring",), "files in, scored files out; resume"),
    (("composite",), "runs components, combines values, caches scores"),
    (("config",), "reward files: YAML, schema, expressions"),
    (("registry",), "finds plugins through entry points"),
    (
        ("authoring", "hookspecs", "process_pool", "services", "user_functions"),
        "@reward, hooks, worker processes, calls to services, functions of users",
    ),
    (
        (
            "types",
            "cheat",
            "errors",
            "monitor",
            "rollout_engine",
            "files",
            "interrupts",
            "reward_models",
            "language_models",
            "read_only",
        ),
        "nouns; standard library only",
    ),
)
"""The layers of ``rewardkit``, highest first, with what they are for."""
FLOORS: Sequence[tuple[Sequence[str], str]] = (
    (("stages",), "sft, reward_model, dpo, grpo, ppo: one file each"),
    (("trainer",), "the loop: checkpoints, optimizer, policy updates"),
    (("reports",), "HTML pages of runs and evaluations"),
    (("monitoring", "preflight"), "metrics, alarms, loggers · data checks before a run"),
    (("evaluation",), "held-out accuracy, pass@k, statistics"),
    (("rollout",), "engines that sample, weight sync check"),
    (("models",), "policy, value model, reward model, log-probs"),
    (("data", "losses"), "rows to tokens · pure functions on tensors"),
    (("distributed", "run_folder", "seeds"), "collectives, FSDP · names of a run's files"),
    (("config",), "training configurations; no torch"),
)
"""The floors of ``rewardkit.train``, highest first, with what they hold."""


def floors() -> Iterator[str]:
    """The picture of the architecture, as inline SVG in the colours of the page."""
    width, row, gap = 480, 56, 6
    shapes: list[str] = []
    top = 0

    def heading(text: str) -> None:
        nonlocal top
        shapes.append(f'<text x="0" y="{top + 20}" class="head">{text}</text>')
        top += 32

    def tower(levels: Sequence[tuple[Sequence[str], str]], kind: str) -> None:
        nonlocal top
        for names, words in levels:
            half = (len(names) + 1) // 2 if len(names) > 4 else len(names)
            lines = [" · ".join(part) for part in (names[:half], names[half:]) if part]
            height = row + 18 * (len(lines) - 1)
            shapes.append(f'<rect x="0" y="{top}" width="{width}" height="{height}" rx="6" class="{kind}"/>')
            for number, line in enumerate(lines):
                shapes.append(f'<text x="12" y="{top + 24 + 18 * number}" class="name">{line}</text>')
            shapes.append(f'<text x="12" y="{top + height - 12}">{words.replace("&", "&amp;")}</text>')
            top += height + gap
        top += 14

    heading("rewardkit")
    tower(LAYERS, "core")
    heading("rewardkit.train")
    tower(FLOORS, "train")
    heading("Distributions of their own")
    tower(
        (
            (("plugins",), "format, length, math, code, judge, reward_model, and yours"),
            (("rewardkit-sandbox",), "runs untrusted programs; knows nothing of rewards"),
        ),
        "other",
    )
    yield (
        f'<svg class="floors" viewBox="-1 0 {width + 2} {top}" role="img" xmlns="http://www.w3.org/2000/svg">'
        "<title>The layers of rewardkit and the floors of rewardkit.train; each imports only what is below it.</title>"
        + "".join(shapes)
        + "</svg>\n"
    )


PARTS: dict[str, Callable[..., Iterator[str]]] = {
    "algorithms": algorithms,
    "policy_losses": policy_losses,
    "commands": commands,
    "component-metrics": component_metrics,
    "file": file,
    "floors": floors,
    "keys": keys,
    "metrics": metrics,
    "module": module,
    "monitors": monitors,
    "public-names": public_names,
    "rewards": rewards,
    "stages": stages,
}
"""By the name that a page uses."""
