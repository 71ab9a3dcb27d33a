"""``rewardkit view``: shows scored files, training runs and other rollouts in the browser."""

from __future__ import annotations

import contextlib
import webbrowser
from pathlib import Path

import click

from rewardkit.errors import UsageError

NEEDED = ("duckdb", "starlette", "uvicorn")
PORT = 8078


@click.command("view")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help=f"The port; 0: any free one.  [default: {PORT}, or any free one if it is in use]",
)
@click.option(
    "--token",
    envvar="REWARDKIT_VIEW_TOKEN",
    help="The first part of the address, so that links keep working after a restart. By default a new one is made. "
    "[env: REWARDKIT_VIEW_TOKEN]",
)
@click.option("--browser/--no-browser", default=True, show_default=True, help="Open the page in the browser.")
def command(paths: tuple[Path, ...], port: int | None, token: str | None, browser: bool) -> None:
    """Show rollouts in the browser: filter, sort, search, compare, and follow a run while it goes on.

    PATHS are scored files, folders of training runs or of `rewardkit eval`, files of other systems (traces and results of verifiers,
    rollouts of NeMo-Gym and verl, completions of TRL, logs of Inspect), or folders that hold any of these.

    The page is reached from this machine only, at an address with a token. It loads nothing from a network. Ctrl-C ends it.
    """
    try:
        from rewardkit.view.run import LOOPBACK, listen, new_token, serve
        from rewardkit.view.sources import Sources
    except ModuleNotFoundError as error:
        if error.name not in NEEDED:
            raise
        raise UsageError(f"viewing needs {error.name}: pip install 'rewardkit[view]'") from None
    token = token or new_token()
    if not token.isascii() or not token.replace("-", "").replace("_", "").isalnum() or len(token) < 8:
        raise UsageError("the token must be 8 or more letters, digits, hyphens and underscores")
    with contextlib.ExitStack() as stack:
        sources = Sources(paths, tell=lambda text: click.echo(text, err=True))
        stack.callback(sources.close)
        sock = stack.enter_context(listen(PORT if port is None else port, any_other=port is None))
        address = f"http://{LOOPBACK}:{sock.getsockname()[1]}/{token}/"

        def started() -> None:
            count = len(sources.sources)
            rows = sum(one.relation.rows for one in sources.sources)
            so_far = " so far; reading" if any(one.is_loading for one in sources.sources) else ""
            click.echo(f"{count} {'file or run' if count == 1 else 'files and runs'} with {rows:,} rows{so_far}")
            click.echo(f"{address}  (Ctrl-C ends the viewer)")
            if browser:
                webbrowser.open(address)

        serve(sources, token, sock, started)
