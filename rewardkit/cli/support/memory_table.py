"""The estimate of a training run's memory, for ``rewardkit check``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from rewardkit.train.config.training_file import TrainFile
    from rewardkit.train.preflight.data_checks import Findings
    from rewardkit.train.preflight.memory_estimate import Memory
    from rewardkit.train.preflight.run_memory import MachineMemory

_UNTRACEABLE = (
    RuntimeError,
    NotImplementedError,
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    OSError,
    ImportError,
)
"""What models raise that can't run on tensors without memory, such as those that look at values."""


def add_memory(file: TrainFile, found: Findings, processes: int) -> tuple[Memory, MachineMemory] | None:
    """Estimate the memory of a run, and warn if this machine has less.

    Args:
        file: The configuration.
        found: The findings, to which a warning or the reason for a missing estimate is added.
        processes: Number of training processes on this machine.

    Returns:
        The estimate and what this machine has; None if there is no estimate.
    """
    from rewardkit.train.preflight.run_memory import estimate_run, machine_memory, memory_warning

    if found.lengths is None:
        return None
    try:
        memory = estimate_run(file, found.lengths, processes)
    except _UNTRACEABLE as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        found.facts["memory"] = f"can't be estimated for this model: {reason}"
        return None
    machine = machine_memory()
    found.warnings += filter(None, [memory_warning(memory, machine, file, processes)])
    return memory, machine


def print_memory(console: Console, memory: Memory, machine: MachineMemory, processes: int) -> None:
    """Print the parts of the peak memory of a process.

    Args:
        console: Where to print.
        memory: The estimate.
        machine: What this machine has.
        processes: Number of training processes on this machine.
    """
    from rich.table import Table

    from rewardkit.train.preflight.memory_estimate import format_bytes

    each = "" if processes == 1 else f" of each of {processes} processes"
    console.print(f"[dim]peak memory{each}, in the {memory.largest_phase} of a step (estimate):[/dim]", highlight=False)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for name, size in sorted(memory.peak_parts.items(), key=lambda part: -part[1]):
        table.add_row(name, format_bytes(size))
    table.add_row("[bold]sum[/bold]", f"[bold]{format_bytes(memory.peak)}[/bold]")
    console.print(table)
    needed = memory.peak * (processes if machine.is_shared else 1)
    fits = "fits" if needed <= machine.total else "does not fit"
    console.print(f"{fits} into the {format_bytes(machine.total)} of {machine.name}\n", highlight=False)


def memory_json(memory: Memory, machine: MachineMemory) -> dict[str, Any]:
    """Return the estimate as JSON data, in bytes.

    Args:
        memory: The estimate.
        machine: What this machine has.
    """
    return {
        "peak": memory.peak,
        "phase": memory.largest_phase,
        "parts": memory.peak_parts,
        "phases": {name: sum(parts.values()) for name, parts in memory.phases.items()},
        "device": machine.name,
        "device_total": machine.total,
    }
