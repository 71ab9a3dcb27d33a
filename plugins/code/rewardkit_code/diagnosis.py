"""What `rewardkit doctor` is told of the sandbox: what this machine has, which backend `auto` takes, and which walls hold."""

from __future__ import annotations

from collections.abc import Iterator

from rewardkit_sandbox import SandboxError
from rewardkit_sandbox.checks.host_checks import look
from rewardkit_sandbox.checks.isolation_checks import check

from rewardkit import Finding


def findings() -> Iterator[Finding]:
    """The same that `rewardkit sandbox check` shows; only what `auto` takes must hold."""
    for each in look():
        yield Finding(each.name, "ok" if each.holds else "note", each.detail, "" if each.holds else each.remedy)
    try:
        taken, walls = check("auto")
    except SandboxError as error:
        yield Finding("sandbox", "problem", str(error), "rewardkit sandbox build python")
        return
    yield Finding("sandbox", "ok", f"auto takes {taken}")
    for each in walls:
        yield Finding(each.name, "ok" if each.holds else "problem", each.detail, each.remedy)
    other = "bubblewrap" if taken.startswith("docker") else "docker"
    try:
        _, walls = check(other)
    except SandboxError as error:
        yield Finding(f"or {other}", "note", str(error))
        return
    weak = "; ".join(f"{each.name}: {each.detail}" for each in walls if not each.holds)
    yield Finding(f"or {other}", "note" if weak else "ok", weak or f"the same {len(walls)} walls hold")
