"""``rewardkit plugins``: lists the installed rewards with their origin, parameters and examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import orjson

from rewardkit.cli import COMMANDS, load_registry
from rewardkit.errors import PluginClashError
from rewardkit.types import RewardType

if TYPE_CHECKING:
    from rewardkit.registry import OfferedReward, Registry


@click.command("plugins")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def command(name: str | None, as_json: bool) -> None:
    """List the installed rewards, or describe one.

    NAME is a reward, such as format.tags, or a family of rewards, such as format.
    """
    registry = load_registry()
    if name is None:
        _list(registry, as_json)
        return
    members = [offer for known in registry.names() if known.split(".")[0] == name for offer in registry.rewards[known]]
    offers = members if name not in registry.rewards and members else [registry.get(name)]
    if as_json:
        click.echo(orjson.dumps([_describe(offer) for offer in offers], option=orjson.OPT_INDENT_2).decode())
        return
    for offer in offers:
        _explain(offer)


def _schema(kind: RewardType) -> dict[str, Any]:
    """Return the schema of the parameters; if their types have none, only a description that says so."""
    from pydantic.errors import PydanticUserError

    from rewardkit.config.params import params_schema

    try:
        return params_schema(kind)
    except PydanticUserError as error:
        return {"description": f"has no schema: {error.message.splitlines()[0]}"}


def _describe(offer: OfferedReward) -> dict[str, Any]:
    kind = offer.type
    return {
        "name": kind.name,
        "distribution": offer.provenance.distribution,
        "version": offer.provenance.version,
        "plugin": offer.provenance.plugin,
        "doc": kind.doc,
        "needs": list(_needs(kind)),
        "scope": kind.scope,
        "executor": kind.executor,
        "timeout_s": kind.timeout_s,
        "deterministic": kind.deterministic,
        "params": _schema(kind),
        "example": _example(kind),
    }


def _needs(kind: RewardType) -> tuple[str, ...]:
    """Return the fields that are read with default parameters; a required parameter stands in angle brackets."""
    required = _schema(kind).get("required", [])
    placeholders = {name: f"<{name}>" for name in required}
    try:
        return kind.needed_fields(kind.params(**placeholders))
    # The boundary: with placeholders for parameters, the plugin's own code may raise anything.
    except Exception:  # noqa: BLE001
        return () if callable(kind.needs) else kind.needs


def _example(kind: RewardType) -> str:
    """Return the plugin's own example, or a component with the required parameters."""
    if kind.example:
        return kind.example.strip()
    schema = _schema(kind)
    samples = {"string": "…", "integer": 1, "number": 1.0, "boolean": "true", "array": "[…]", "object": "{…}"}
    required = [
        f"{name}: {samples.get(schema['properties'][name].get('type'), '…')}" for name in schema.get("required", [])
    ]
    body = f", with: {{{', '.join(required)}}}" if required else ""
    return f"{kind.name.split('.')[-1]}: {{use: {kind.name}{body}, weight: 1.0}}"


def _list(registry: Registry, as_json: bool) -> None:
    if as_json:
        listing = {
            "rewards": [_describe(offer) for name in registry.names() for offer in registry.rewards[name]],
            "rollout_engines": {name: str(offers[0].provenance) for name, offers in sorted(registry.engines.items())},
            "commands": {name: str(offers[0][1]) for name, offers in sorted(registry.commands.items())},
            "broken": [
                {
                    "plugin": item.provenance.plugin,
                    "from": str(item.provenance),
                    "cause": item.cause,
                    "traceback": item.traceback,
                }
                for item in registry.broken
            ],
            "disabled": [str(item) for item in registry.disabled],
            "clashes": _clashes(registry),
        }
        click.echo(orjson.dumps(listing, option=orjson.OPT_INDENT_2).decode())
    else:
        _print_list(registry)
    if clashes := _clashes(registry):
        raise PluginClashError("\n".join(clashes))


def _clashes(registry: Registry) -> list[str]:
    """Return the names that two plugins offer, and plugin commands that have the name of a core command."""
    return registry.clashes() + [
        f"command {name!r} of {offers[0][1]} (plugin {offers[0][1].plugin!r}) can't be reached: the core has a command of that name"
        for name, offers in sorted(registry.commands.items())
        if name in COMMANDS
    ]


def _print_list(registry: Registry) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from rewardkit.registry import OWN

    console = Console()
    if registry.rewards:
        by_plugin: dict[str, list[OfferedReward]] = {}
        for name in registry.names():
            for offer in registry.rewards[name]:
                by_plugin.setdefault(str(offer.provenance), []).append(offer)
        for provenance, offers in by_plugin.items():
            table = Table(
                box=None, pad_edge=False, show_header=False, title=provenance, title_justify="left", expand=True
            )
            table.add_column(no_wrap=True, style="cyan", width=max(len(name) for name in registry.rewards))
            table.add_column(no_wrap=True, style="dim", width=7)
            table.add_column(ratio=1)
            for offer in offers:
                table.add_row(offer.type.name, offer.type.executor, escape(_summary(offer.type)))
            console.print(table)
        console.print("\n[dim]`rewardkit plugins NAME` shows parameters and an example.[/dim]")
    if all(offer.provenance.plugin == OWN for offers in registry.rewards.values() for offer in offers):
        console.print("No reward plugins are installed. Try: pip install 'rewardkit\\[format,length,math]'")
    for engine, engines in sorted(registry.engines.items()):
        console.print(f"rollout engine [cyan]{escape(engine)}[/cyan] from {escape(str(engines[0].provenance))}")
    for name, commands in sorted(registry.commands.items()):
        console.print(f"command [cyan]{escape(name)}[/cyan] from {escape(str(commands[0][1]))}")
    for item in registry.broken:
        console.print(
            f"[red]broken[/red] {escape(item.provenance.plugin)} from {escape(str(item.provenance))}: {escape(item.cause)}"
        )
    for off in registry.disabled:
        console.print(f"[yellow]disabled[/yellow] {escape(off.plugin)} from {escape(str(off))}")


def _summary(kind: RewardType) -> str:
    """Return the first paragraph of the description without Markdown's backticks."""
    return kind.doc.split("\n\n", maxsplit=1)[0].replace("`", "").replace("\n", " ")


def _explain(offer: OfferedReward) -> None:
    from rich.console import Console
    from rich.markdown import Markdown
    from rich.markup import escape
    from rich.table import Table

    kind = offer.type
    console = Console()
    console.print(f"[bold cyan]{escape(kind.name)}[/bold cyan]  [dim]{escape(str(offer.provenance))}[/dim]")
    console.print(Markdown(kind.doc or "(no description)"))
    schema = _schema(kind)
    required = schema.get("required", [])
    if schema.get("properties"):
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("parameter", no_wrap=True, style="cyan")
        table.add_column("type")
        table.add_column("default")
        table.add_column("description", ratio=1)
        for name, value in schema["properties"].items():
            default = "required" if name in required else orjson.dumps(value.get("default")).decode()
            table.add_row(
                name,
                escape(type_text(value, schema)),
                escape(default),
                escape(value.get("description", "").replace("``", "")),
            )
        console.print()
        console.print(table)
    else:
        console.print(f"\n{escape(schema.get('description', 'It has no parameters.'))}")
    needs = ", ".join(_needs(kind)) or "prompt and completion only"
    limit = f", {kind.timeout_s:g} s for each rollout" if kind.timeout_s else ""
    console.print(f"\n[bold]reads[/bold]    {escape(needs)}", highlight=False)
    console.print(f"[bold]runs[/bold]     {kind.executor}, on one {kind.scope} at a time{limit}", highlight=False)
    console.print(f"[bold]example[/bold]  {escape(_example(kind))}\n", highlight=False, soft_wrap=True)


def type_text(schema: dict[str, Any], root: dict[str, Any]) -> str:
    """Return a parameter's type in words."""
    if "$ref" in schema:
        return type_text(root.get("$defs", {}).get(str(schema["$ref"]).rpartition("/")[2], {}), root)
    if "enum" in schema:
        return " | ".join(str(option) for option in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return " | ".join(dict.fromkeys(type_text(option, root) for option in options))
    if schema.get("type") == "array":
        return f"list of {type_text(schema['items'], root)}" if isinstance(schema.get("items"), dict) else "list"
    words = {"string": "text", "integer": "whole number", "object": "mapping", "boolean": "true | false"}
    return words.get(str(schema.get("type")), str(schema.get("type", "anything")))
