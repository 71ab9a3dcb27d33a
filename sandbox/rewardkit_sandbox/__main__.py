"""`python -m rewardkit_sandbox`."""

from rewardkit_sandbox.cli import main

main(prog_name="python -m rewardkit_sandbox")
