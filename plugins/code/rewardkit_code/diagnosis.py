"""The sandbox's part of `rewardkit doctor`: what this machine has, which backend `auto` takes, and whether it isolates programs."""

from __future__ import annotations

from collections.abc import Iterator

from rewardkit_sandbox import SandboxError
from rewardkit_sandbox.checks.host_checks import check_host
from rewardkit_sandbox.checks.isolation_checks import check_isolation

from rewardkit import Finding


def findings() -> Iterator[Finding]:
    """Yield what `rewardkit sandbox check` shows; only a failed check of the backend that `auto` takes is a problem."""
    host = check_host()
    for each in host:
        yield Finding(each.name, "ok" if each.holds else "note", each.detail, "" if each.holds else each.remedy)
    try:
        taken, checks = check_isolation("auto")
    except SandboxError as error:
        missing = {each.name: each.remedy for each in host if not each.holds}
        # An image is of use only where something can run it.
        none = missing.keys() >= {"Docker engine", "bubblewrap"}
        yield Finding(
            "sandbox", "problem", str(error), missing["bubblewrap"] if none else "rewardkit sandbox build python"
        )
        return
    yield Finding("sandbox", "ok", f"auto takes {taken}")
    for each in checks:
        yield Finding(each.name, "ok" if each.holds else "problem", each.detail, each.remedy)
    other = "bubblewrap" if taken.startswith("docker") else "docker"
    try:
        _, checks = check_isolation(other)
    except SandboxError as error:
        yield Finding(f"or {other}", "note", str(error))
        return
    failed = "; ".join(f"{each.name}: {each.detail}" for each in checks if not each.holds)
    yield Finding(
        f"or {other}", "note" if failed else "ok", failed or f"passes the same {len(checks)} isolation checks"
    )
