"""``rewardkit schema``."""

import json

import jsonschema
import pytest

from rewardkit import Registry
from rewardkit.cli import run
from rewardkit.config import reward_schema


def test_it_prints_the_schema_of_what_is_installed(install_plugin, capsys: pytest.CaptureFixture) -> None:
    """The output is the schema as JSON, a plugin of this environment included, and works in any validator."""
    install_plugin("""
        from rewardkit import reward

        @reward("acme.pal")
        def palindrome(rollout, *, strict: bool = False) -> float:
            return 1.0
    """)
    assert run(["schema"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(json.dumps(reward_schema(Registry.load())))
    validator = jsonschema.Draft202012Validator(printed)
    good = {"version": 1, "components": {"a": {"use": "acme.pal", "with": {"strict": True}}}}
    assert validator.is_valid(good)
    good["components"]["a"]["with"]["strict"] = "yes"
    assert not validator.is_valid(good)
