"""The command ``rwk``: the command line of rewardkit, even where another distribution owns the name ``rewardkit``.

The distribution ``harbor-rewardkit`` has an import package and a command of the same name. Whichever of the two is installed
last overwrites the other's `rewardkit/__init__.py`, `rewardkit/__main__.py` and command, and uninstalling it deletes them. This
package has a name of its own, so it works in each of these cases. If only those files were replaced, it imports `rewardkit`
from `rwk/fallback` instead, here and in all child processes. If others were replaced as well, it stops with an error that says
how to repair the installation.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line of rewardkit and exit."""
    from rwk.installation import DamagedError, put_own_package_first

    try:
        put_own_package_first()
    except DamagedError as error:
        sys.exit(f"error: {error}")
    from rewardkit.cli import main as run

    run(prog_name="rwk")
