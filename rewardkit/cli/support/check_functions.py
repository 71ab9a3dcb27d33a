"""``rewardkit check`` for functions that a reward file names: it does not import them unless it is told to trust them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from rewardkit.config.params import plain_params
from rewardkit.user_functions import is_function

if TYPE_CHECKING:
    from rewardkit.config.spec import Component, RewardConfig

IMPORT_S = 60.0
"""Seconds that importing a user's file may take."""
_IMPORT = "import json, sys; from rewardkit.user_functions import try_import; try_import(*json.loads(sys.argv[1]))"


def functions_of(config: RewardConfig) -> list[Component]:
    """Return the components whose reward is a function that the file names.

    Args:
        config: The reward file.
    """
    return [
        component
        for composite in config.composites.values()
        for component in composite.components
        if is_function(component.offer.type.name)
    ]


def import_problem(component: Component) -> str | None:
    """Import a component's function in a process of its own, which is killed if it takes too long.

    Args:
        component: A component whose reward is a function.

    Returns:
        What is wrong, or None.
    """
    request = json.dumps([component.offer.type.origin, plain_params(component.params)])
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _IMPORT, request],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=IMPORT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"importing {component.offer.type.name} takes longer than {IMPORT_S:g} s"
    if done.returncode == 0:
        return None
    last = done.stderr.strip().splitlines()[-1:] or [f"its process ended with {done.returncode}"]
    return f"{component.offer.type.name} can't be imported: {last[0][:300]}"
