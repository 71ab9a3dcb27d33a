"""The table of what becomes of failures in other systems; its rows are compared by the tests of each system."""

from pathlib import Path

import rewardkit.integrations

from .conftest import truth_rows

ADAPTERS = {
    "trl": "TRL",
    "verl": "verl",
    "openrlhf": "OpenRLHF",
    "verifiers": "verifiers",
    "verifiers_rubric": "verifiers",
    "inspect": "Inspect",
    "lm_eval": "lm_eval",
    "slime": "slime",
    "skyrl": "SkyRL",
}


def test_every_adapter_has_a_row() -> None:
    """No adapter is without a statement of what becomes of failures, and the service's protocols have one, too."""
    names = {file.stem for file in Path(rewardkit.integrations.__file__).parent.glob("*.py")} - {"__init__", "common"}
    assert names == set(ADAPTERS)
    rows = truth_rows()
    assert {system for system in ADAPTERS.values() if not any(row.startswith(system) for row in rows)} == set()
    assert any(row.startswith("NeMo-Gym") for row in rows)


def test_nowhere_is_a_failure_trained_as_zero() -> None:
    """Every row says so, with the version that it was tried with."""
    for system, (_, version, failed, siblings, zero) in truth_rows().items():
        assert zero == "no", system
        assert version, system
        assert failed, system
        assert "as without it" in siblings or "the run stops" in siblings, system


def test_adapters_are_small() -> None:
    """An adapter is short enough to be read at once."""
    for name in ADAPTERS:
        file = Path(rewardkit.integrations.__file__).with_name(f"{name}.py")
        assert len(file.read_text().splitlines()) < 120, name
