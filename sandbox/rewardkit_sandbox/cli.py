"""`python -m rewardkit_sandbox`: build images, check the isolation, run a program, serve."""

from __future__ import annotations

import json
import secrets
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rewardkit_sandbox.backends import registry
from rewardkit_sandbox.checks import host_checks
from rewardkit_sandbox.checks.isolation_checks import check_isolation
from rewardkit_sandbox.errors import SandboxError
from rewardkit_sandbox.images import building
from rewardkit_sandbox.languages import LANGUAGES
from rewardkit_sandbox.opening import open_sandbox
from rewardkit_sandbox.types import Limits, Program, Property, Stdin

_BACKEND = (
    "docker, bubblewrap, or the name of one that another distribution offers; auto takes Docker, else bubblewrap."
)


class _Failed(click.ClickException):
    exit_code = 1


@click.group()
def main() -> None:
    """Run untrusted programs fast and safely."""


@main.command()
@click.argument("names", nargs=-1, metavar="[IMAGE]...")
@click.option("--force", is_flag=True, help="Build images again that exist.")
@click.option("--list", "listing", is_flag=True, help="List the images that can be built, and exit.")
def build(names: tuple[str, ...], force: bool, listing: bool) -> None:
    """Build images (by default python) from a registry's Debian image or, without a registry, with debootstrap."""
    if listing:
        table = Table("image", "what is in it", "root file system", "Docker image")
        for recipe in building.recipes().values():
            there = (building.root(recipe.name) / "usr").exists()
            table.add_row(
                recipe.name,
                recipe.description,
                str(building.root(recipe.name)) if there else "–",
                "yes" if building.has_docker_image(recipe.name) else "–",
            )
        Console().print(table)
        return
    try:
        for name in names or ("python",):
            building.build(name, lambda line: click.echo(line, err=True), force=force)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except SandboxError as error:
        raise _Failed(str(error)) from error


@main.command()
@click.option("--backend", metavar="NAME", default=None, help="Check only this backend; by default all local ones.")
@click.option("--image", default="python", show_default=True, help="The image to check with.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(backend: str | None, image: str, as_json: bool) -> None:
    """Check what this machine has, and test the isolation of each backend with programs that try to break it."""
    local = [name for name in registry.names() if name != "remote"]
    names = [backend] if backend else local
    if not {*names} <= {"auto", *registry.names()}:
        raise click.UsageError(f"unknown backend {backend!r}; there are auto, {', '.join(registry.names())}")
    there = host_checks.check_host(image)
    found: dict[str, object] = {"machine": _rows(there)}
    if not as_json:
        _print("this machine", there, "[yellow]no[/]")
    broken = works = False
    for name in names:
        try:
            description, properties = check_isolation(name, image)
        except SandboxError as error:
            found[name] = {"available": False, "why": str(error)}
            if not as_json:
                click.echo(f"{name}: not available: {error}", err=True)
            continue
        works = True
        broken |= not all(each.holds for each in properties)
        found[name] = {"available": True, "properties": _rows(properties)}
        if not as_json:
            _print(description, properties, "[bold red]NO[/]")
    if as_json:
        click.echo(json.dumps(found, indent=2))
    if broken or not works:
        sys.exit(1)


def _rows(properties: list[Property]) -> dict[str, dict[str, object]]:
    return {
        each.name: {"holds": each.holds, "detail": each.detail, "remedy": "" if each.holds else each.remedy}
        for each in properties
    }


def _print(title: str, properties: list[Property], no: str) -> None:
    table = Table("property", "holds", "what was seen", title=escape(title))
    for each in properties:
        remedy = "" if each.holds or not each.remedy else f"\n[bold]→ {escape(each.remedy)}[/]"
        table.add_row(escape(each.name), "[green]yes[/]" if each.holds else no, escape(each.detail) + remedy)
    Console().print(table)


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--language", default=None, help="The programming language; by default by the file's suffix.")
@click.option("--backend", metavar="NAME", default="auto", show_default=True, help=_BACKEND)
@click.option("--image", default=None, help="The image; by default python, or languages for other languages.")
@click.option("--cpu", "cpu_s", type=float, default=10.0, show_default=True, help="CPU seconds.")
@click.option("--memory", "memory_mb", type=int, default=512, show_default=True, help="MiB.")
def run(file: Path, language: str | None, backend: str, image: str | None, cpu_s: float, memory_mb: int) -> None:
    """Run a program in a sandbox on this command's standard input, and exit with its exit code."""
    name = language or next((key for key, recipe in LANGUAGES.items() if Path(recipe.file).suffix == file.suffix), None)
    if name is None:
        raise click.UsageError(f"no language is known for {file.name}; give --language, one of {', '.join(LANGUAGES)}")
    stdin = b"" if sys.stdin.isatty() else sys.stdin.buffer.read()
    limits = Limits(cpu_s=cpu_s, memory_mb=memory_mb)
    try:
        with open_sandbox(
            backend, slots=1, image=image or ("python" if name == "python" else "languages"), limits=limits
        ) as sandbox:
            result = sandbox.run(Program(file.read_text(), name), [Stdin(stdin)])
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except SandboxError as error:
        raise _Failed(str(error)) from error
    done = result.runs[0]
    sys.stdout.buffer.write(done.stdout)
    sys.stderr.buffer.write(done.stderr)
    if done.note:
        click.echo(f"{done.status}: {done.note}", err=True)
    sys.exit(0 if done.ok else done.exit_code or 1)


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8080, show_default=True)
@click.option("--backend", metavar="NAME", default="auto", show_default=True, help=_BACKEND)
@click.option("--image", default="languages", show_default=True)
@click.option("--slots", type=int, default=None, help="Programs at a time; by default twice the CPUs.")
@click.option(
    "--token",
    envvar="REWARDKIT_SANDBOX_TOKEN",
    help="The token that clients send; by default a new one, which is printed.",
)
@click.option(
    "--no-token", is_flag=True, help="Accept requests without a token. Anyone who reaches the port can run programs."
)
@click.option(
    "--allow-host", "hosts", multiple=True, metavar="NAME", help="Another name under which clients reach the service."
)
@click.option(
    "--max-timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="The longest run_timeout that a request may ask for, in seconds.",
)
def serve(
    host: str,
    port: int,
    backend: str,
    image: str,
    slots: int | None,
    token: str | None,
    no_token: bool,
    hosts: tuple[str, ...],
    max_timeout: float,
) -> None:
    """Serve a sandbox over SandboxFusion's HTTP API.

    Clients send the token as `Authorization: Bearer TOKEN`. Requests must be JSON and name this host, so that no web page can send
    programs through a visitor's browser.
    """
    if no_token and token:
        raise click.UsageError("--no-token and --token (or REWARDKIT_SANDBOX_TOKEN) exclude each other")
    try:
        import uvicorn
    except ImportError as error:
        raise _Failed("serving needs more: pip install 'rewardkit-sandbox[serve]'") from error
    from rewardkit_sandbox.server import application

    try:
        limits = Limits(cpu_s=max_timeout, wall_s=max_timeout, memory_mb=1024)
        with open_sandbox(backend, slots=slots, image=image, limits=limits) as sandbox:
            if not token and not no_token:
                token = secrets.token_urlsafe(24)
                click.echo(f"token: {token} (clients: export REWARDKIT_SANDBOX_TOKEN={token})", err=True)
            click.echo(f"serving {sandbox.description} with {sandbox.size} boxes on http://{host}:{port}", err=True)
            uvicorn.run(
                application(sandbox, token=token, hosts=(host, *hosts)), host=host, port=port, log_level="warning"
            )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except SandboxError as error:
        raise _Failed(str(error)) from error
