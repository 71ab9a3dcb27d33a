"""``rewardkit serve``: answers requests over HTTP with the scores of a reward."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from rewardkit.cli import load_registry
from rewardkit.errors import UsageError
from rewardkit.toolkit.numbers import FiniteRange

NEEDED = ("fastapi", "uvicorn", "prometheus_client")


@click.command("serve")
@click.argument("reward_file", metavar="REWARD", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port", default=8077, show_default=True, type=click.IntRange(0, 65535), help="The port; 0: any free one."
)
@click.option(
    "--token",
    envvar="REWARDKIT_SERVE_TOKEN",
    help="The token that clients send. Without it, a new one is made and printed unless the address is of this machine alone. "
    "[env: REWARDKIT_SERVE_TOKEN]",
)
@click.option(
    "--allow-host", "hosts", multiple=True, metavar="NAME", help="Another name under which clients reach the service."
)
@click.option("--label", metavar="COLUMN", help="The column that a plain label (OpenRLHF, slime) stands for.")
@click.option(
    "--tokenizer",
    metavar="NAME",
    help="The name or folder of a tokenizer that counts tokens where OpenRLHF and slime don't tell their number.",
)
@click.option(
    "--retry-for",
    default=60.0,
    show_default=True,
    type=FiniteRange(min=0),
    metavar="SECONDS",
    help="How long requests of OpenRLHF, slime and NeMo-Gym wait for what a service or a time-out left unscored.",
)
@click.option("--mask-unscored", is_flag=True, help="Answer NeMo-Gym with mask_sample where a rollout is unscored.")
@click.option(
    "--max-rollouts", default=8192, show_default=True, type=click.IntRange(1), help="Rollouts in flight; more get 429."
)
@click.option(
    "--max-body", default=32, show_default=True, type=click.IntRange(1), metavar="MIB", help="The largest body."
)
@click.option("--workers", type=click.IntRange(1), help="The number of worker processes.  [default: one per core]")
@click.option("--cache", type=click.Path(path_type=Path), metavar="DIR", help="The folder of the score cache.")
@click.option("--no-cache", is_flag=True, help="Do not read or write the score cache.")
def command(
    reward_file: Path,
    host: str,
    port: int,
    token: str | None,
    hosts: tuple[str, ...],
    label: str | None,
    tokenizer: str | None,
    retry_for: float,
    mask_unscored: bool,
    max_rollouts: int,
    max_body: int,
    workers: int | None,
    cache: Path | None,
    no_cache: bool,
) -> None:
    r"""Serve the reward in REWARD (a YAML file) over HTTP.

    POST /score takes rows and answers with the same scores as `rewardkit score`. /get_reward (OpenRLHF), /slime, and /seed_session,
    /verify and /aggregate_metrics (NeMo-Gym) speak the protocols of trainers. /openapi.json describes all of them; /health, /ready and
    /metrics are for monitoring.

    SIGTERM answers the requests in flight, then ends.
    """
    try:
        from rewardkit.serve.app import Settings
        from rewardkit.serve.run import listen, load, serve, with_token
    except ModuleNotFoundError as error:
        if error.name not in NEEDED:
            raise
        raise UsageError(f"serving needs {error.name}: pip install 'rewardkit[serve]'") from None
    from rewardkit.composite import ScoreCache

    settings, is_new = with_token(
        Settings(
            token=token or None,
            hosts=("*",) if host in {"0.0.0.0", "::"} and not hosts else (host, *hosts),  # noqa: S104 - compared
            max_body_bytes=max_body << 20,
            max_rollouts=max_rollouts,
            retry_for_s=retry_for,
            label=label,
            tokenizer=tokenizer,
            mask_unscored=mask_unscored,
        ),
        host,
    )
    registry = load_registry()
    with contextlib.ExitStack() as stack:
        kept = None if no_cache else ScoreCache(cache)
        if kept is not None:
            stack.callback(kept.close)
        reward = stack.enter_context(load(reward_file, registry, workers=workers, cache=kept))
        reward.preflight()
        sock = stack.enter_context(listen(host, port))
        number = sock.getsockname()[1]

        def started() -> None:
            if is_new:
                click.echo(
                    f"token: {settings.token} (clients: export REWARDKIT_SERVE_TOKEN={settings.token})", err=True
                )
            address = f"[{host}]" if ":" in host else host
            click.echo(f"serving {reward_file} (reward_id {reward.reward_id}) on http://{address}:{number}", err=True)

        serve(reward, settings, sock, started)
