"""``rewardkit doctor``: checks this installation and machine, and says how to fix problems."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import orjson

from rewardkit import Finding, __version__
from rewardkit.cli import load_registry
from rewardkit.registry import DISABLE_VARIABLE, FIRST_PARTY
from rwk import installation

if TYPE_CHECKING:
    from rich.console import Console

    from rewardkit.registry import Provenance, Registry

IMPORT_LIMIT_S = 120
_GIB = 1 << 30
_LITTLE = _GIB


@dataclass(frozen=True, slots=True)
class Library:
    """An optional library."""

    module: str
    purpose: str
    install: str
    show: str = ""
    """An expression over the imported module ``m`` whose value is shown too."""


LIBRARIES = (
    Library("pyarrow", "Parquet", "pip install pyarrow"),
    Library(
        "torch",
        "training, reward models",
        "pip install 'rewardkit[train]'",
        "f'{m.cuda.device_count()} GPU' + (f' ({m.cuda.get_device_name(0)})' if m.cuda.device_count() else '')",
    ),
    Library("transformers", "training, reward models", "pip install 'rewardkit[train]'"),
    Library("peft", "training with adapters (LoRA)", "pip install 'rewardkit[train]'"),
    Library("vllm", "sampling on a GPU", "pip install vllm"),
    Library("ray", "scoring on a cluster (--engine ray)", "pip install 'rewardkit[ray]'"),
    Library("wandb", "logging of training", "pip install wandb"),
)


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def command(as_json: bool) -> int:
    """Check this installation and machine, and say how to fix problems.

    Checks the installation, its plugins, the machine and the libraries that rewardkit can use, then runs each plugin's own
    checks. It imports every library and tests the isolation of each sandbox, which takes some seconds. Exits with 1 if there
    is a problem.
    """
    from rich.console import Console

    areas: list[tuple[str, list[Finding]]] = []
    with Console(stderr=True).status("checking …") as status:
        for title, look in _areas():
            status.update(f"checking {title} …")
            areas.append((title, list(look())))
    problems = sum(finding.status == "problem" for _, findings in areas for finding in findings)
    if as_json:
        rows = [{"area": title, "findings": [asdict(finding) for finding in findings]} for title, findings in areas]
        click.echo(orjson.dumps({"problems": problems, "areas": rows}, option=orjson.OPT_INDENT_2).decode())
    else:
        _print(Console(), areas, problems)
    return 1 if problems else 0


def _areas() -> Iterator[tuple[str, Callable[[], Iterable[Finding]]]]:
    registry = load_registry()
    yield "rewardkit", _installation
    yield "machine", _machine
    yield "plugins", lambda: _plugins(registry)
    yield "libraries", _libraries
    for provenance, diagnose in registry.diagnoses():
        yield str(provenance), lambda provenance=provenance, diagnose=diagnose: _asked(provenance, diagnose)  # type: ignore[misc]


def _installation() -> Iterator[Finding]:
    import rewardkit

    yield Finding("rewardkit", "ok", f"{__version__} in {Path(rewardkit.__file__).parent}")
    problem = installation.find_problem(thorough=True)
    if problem is None:
        yield Finding("files", "ok", "as installed, and owned by no other distribution")
    else:
        yield Finding("files", "problem", problem.detail, problem.remedy)
    supported = sys.version_info >= (3, 11)
    yield Finding(
        "Python",
        "ok" if supported else "problem",
        f"{platform.python_version()}, {sys.executable}",
        "" if supported else "rewardkit needs Python 3.11 or newer",
    )


def _machine() -> Iterator[Finding]:
    linux = sys.platform == "linux"
    system = f"{platform.system()} {platform.release()}, {platform.machine()}"
    yield Finding("system", "ok" if linux else "note", system, "" if linux else "rewardkit is tested on Linux only")
    cores = len(os.sched_getaffinity(0)) if linux else os.cpu_count() or 1
    yield Finding("cores", "ok", f"{cores} of {os.cpu_count()}" if cores != os.cpu_count() else str(cores))
    if linux:
        rows = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        total, available = (int(rows[name].split()[0]) << 10 for name in ("MemTotal", "MemAvailable"))
        yield _room("memory", available, total, "close what else uses it, or lower --workers")
    for name, folder in {"disk here": Path.cwd(), "disk for temporary files": Path(tempfile.gettempdir())}.items():
        usage = shutil.disk_usage(folder)
        yield _room(name, usage.free, usage.total, f"make room on the disk of {folder}", f" in {folder}")


def _room(name: str, free: int, total: int, remedy: str, where: str = "") -> Finding:
    little = free < _LITTLE
    detail = f"{free / _GIB:.1f} of {total / _GIB:.1f} GiB free{where}"
    return Finding(name, "note" if little else "ok", detail, remedy if little else "")


def _plugins(registry: Registry) -> Iterator[Finding]:
    offers = [offer.provenance for offered in registry.rewards.values() for offer in offered]
    for provenance in registry.plugins:
        count = offers.count(provenance)
        yield Finding(provenance.plugin, "ok", f"{provenance}, {count} reward{'' if count == 1 else 's'}")
    for broken in registry.broken:
        yield Finding(
            broken.provenance.plugin,
            "problem",
            f"{broken.provenance} is broken: {broken.cause}",
            f"see rewardkit plugins --json for the traceback; {DISABLE_VARIABLE}={broken.provenance.plugin} disables it",
        )
    for clash in registry.clashes():
        yield Finding("clash", "problem", clash)
    for off in registry.disabled:
        yield Finding(off.plugin, "note", f"{off} is disabled by {DISABLE_VARIABLE}")
    known = {
        item.plugin for item in (*registry.plugins, *registry.disabled, *(each.provenance for each in registry.broken))
    }
    for name in FIRST_PARTY:
        if name not in known:
            yield Finding(name, "note", "not installed", f"pip install 'rewardkit[{name.replace('_', '-')}]'")


def _libraries() -> Iterator[Finding]:
    with ThreadPoolExecutor(2) as executor:
        yield from executor.map(_library, LIBRARIES)


def _library(library: Library) -> Finding:
    """Check that a library can be imported, in a process of its own, since a broken library may crash it."""
    if importlib.util.find_spec(library.module) is None:
        return Finding(library.module, "note", f"not installed; for {library.purpose}", library.install)
    shown = f", {library.show}" if library.show else ""
    code = f"import {library.module} as m; print(); print(getattr(m, '__version__', 'there'){shown}, sep=', ')"
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=IMPORT_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Finding(library.module, "problem", f"importing it takes more than {IMPORT_LIMIT_S} s", library.install)
    if done.returncode == 0:
        return Finding(library.module, "ok", f"{done.stdout.strip().splitlines()[-1].strip()}; for {library.purpose}")
    said = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
    return Finding(library.module, "problem", f"can't be imported: {said[0]}", library.install)


def _asked(provenance: Provenance, diagnose: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """Run a plugin's own checks; an exception of its code is a finding like any other."""
    try:
        for finding in diagnose() or ():
            if not isinstance(finding, Finding):
                raise TypeError(f"diagnose returned a {type(finding).__name__}, not a Finding")  # noqa: TRY301
            yield finding
    # The boundary, as when a plugin is loaded: its own code may raise anything.
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, GeneratorExit)):
            raise
        detail = " ".join(f"its diagnosis failed: {type(error).__name__}: {error}".split())
        yield Finding(provenance.plugin, "problem", detail, f"tell the author of {provenance.distribution}")


def _print(console: Console, areas: list[tuple[str, list[Finding]]], problems: int) -> None:
    from rich.markup import escape
    from rich.table import Table

    marks = {"ok": "[green]✓[/green]", "note": "[yellow]–[/yellow]", "problem": "[bold red]✗[/bold red]"}
    widest = max(len(finding.name) for _, findings in areas for finding in findings)
    for title, findings in areas:
        table = Table(
            box=None, pad_edge=False, show_header=False, title=escape(title), title_justify="left", expand=True
        )
        table.add_column(width=1)
        table.add_column(width=min(widest, 32), style="cyan")
        table.add_column(ratio=1)
        for finding in findings:
            remedy = f"\n[bold]→ {escape(finding.remedy)}[/bold]" if finding.remedy else ""
            table.add_row(marks[finding.status], escape(finding.name), escape(finding.detail) + remedy)
        console.print(table)
        console.print()
    if problems:
        console.print(f"[bold red]{problems} problem{'' if problems == 1 else 's'}[/bold red]")
    else:
        console.print("[green]no problems[/green]")
