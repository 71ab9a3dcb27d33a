"""Reading and checking a training configuration, with overrides from the command line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from rewardkit.config import Component, RewardConfig, parse_yaml, read_yaml
from rewardkit.config.reading import resolve
from rewardkit.config.validate import did_you_mean, schema_problems, show
from rewardkit.config.yaml import Document, Path_
from rewardkit.errors import ConfigError, Location
from rewardkit.registry import Registry
from rewardkit.train.config import RlConfig, RunConfig, VerifierNoise
from rewardkit.train.config.algorithms import checked_algorithm
from rewardkit.train.config.engines import chosen_engine
from rewardkit.train.config.monitors import refuse_renamed_monitors, refuse_unknown_monitors
from rewardkit.train.config.stages import STAGES
from rewardkit.train.config.training_file import TrainFile

RENAMED_KEYS: Mapping[tuple[str, ...], str] = {
    ("shard",): "fsdp",
    ("rollout", "canary"): "weight_sync_check",
    ("rollout", "max_mismatch"): "max_sampling_logp_difference",
    ("filter", "zero_spread"): "zero_std",
}
"""Former names of keys, by their path, with the new name of the last part."""
MOVED_KEYS: Mapping[tuple[str, ...], str] = {
    ("algorithm", "eps_low"): "algorithm.loss: {with: {eps_low: …}}",
    ("algorithm", "eps_high"): "algorithm.loss: {with: {eps_high: …}}",
    ("algorithm", "max_ratio"): "algorithm.loss: {with: {max_ratio: …}}",
    ("algorithm", "dual_clip"): "algorithm.loss: {use: dual_clip, with: {bound: …}}",
    ("algorithm", "cispo_low"): "algorithm.loss: {use: cispo, with: {low: …}}",
    ("algorithm", "cispo_high"): "algorithm.loss: {use: cispo, with: {high: …}}",
    ("algorithm", "sapo_tau_positive"): "algorithm.loss: {use: sapo, with: {tau_positive: …}}",
    ("algorithm", "sapo_tau_negative"): "algorithm.loss: {use: sapo, with: {tau_negative: …}}",
}
"""Former keys that are now written elsewhere, by their path."""


def read_train_config(
    file: Path | str | Mapping[str, Any], registry: Registry | None = None, overrides: Mapping[str, str] | None = None
) -> TrainFile:
    """Read and check a training configuration, its reward included.

    Args:
        file: The YAML file, or its content as a mapping, whose relative paths are relative to the current directory.
        registry: The plugins that a reward may use; by default those installed.
        overrides: Values in YAML by dotted path (``optimizer.lr``), put over what the file says.

    Raises:
        ConfigError: Anything is wrong; every problem is listed with file, line and column.
    """
    if isinstance(file, Mapping):
        text = orjson.dumps(file, default=str, option=orjson.OPT_INDENT_2).decode()
        document, folder = parse_yaml(text, "the configuration"), Path.cwd()
    else:
        document, folder = read_yaml(file), Path(file).resolve().parent
    if not isinstance(document.data, dict):
        raise ConfigError((document.where(()), "must be a mapping with the keys 'version' and 'stage'"))
    for path, text in (overrides or {}).items():
        _override(document, path, text)
    kind = stage_of(document)
    refuse_renamed_keys(document)
    refuse_renamed_monitors(document)
    config_class = STAGES[kind].config_class()
    adapter = TypeAdapter(config_class)
    if problems := schema_problems(document, adapter.json_schema()):
        raise ConfigError(*problems)
    try:
        config: RunConfig = adapter.validate_python(document.data, context={"folder": folder})
    except ValidationError as error:
        raise ConfigError(
            *(
                (document.where(_path_of(words, problem["loc"])), words)
                for problem in error.errors()
                if (words := problem["msg"].removeprefix("Value error, "))
            )
        ) from None
    if file_there := [path for path in (config.output, *config.output.parents) if path.is_file()]:
        raise ConfigError((document.where(("output",)), f"output must be a folder, and {file_there[0]} is a file"))
    registry = registry or Registry.load()
    reward = _reward(document, folder, registry, "reward")
    gold = _reward(document, folder, registry, "evaluate", "gold")
    engine = chosen_engine(document, config, registry) if isinstance(config, RlConfig) else None
    if isinstance(config, RlConfig):
        refuse_unknown_monitors(document, config.monitors, registry)
        checked_algorithm(document, config)
        refuse_unfit_components(document, config, reward)
    return TrainFile(config, document, reward, gold, registry, engine)


def stage_of(document: Document) -> str:
    """Return the stage that a document names. Raises ConfigError if there is no such stage."""
    found = document.data.get("stage")
    if found is None:
        raise ConfigError((document.where(()), f"lacks the key 'stage'; stages are {', '.join(STAGES)}"))
    if not isinstance(found, str) or found not in STAGES:
        hint = did_you_mean(str(found), STAGES) or f"; stages are {', '.join(STAGES)}"
        raise ConfigError((document.where(("stage",)), f"there is no stage {found!r}{hint}"))
    return found


def refuse_renamed_keys(document: Document) -> None:
    """Raise ConfigError if a configuration uses the former name of a key."""
    problems = []
    renamed = {path: f"called {'.'.join((*path[:-1], new))}" for path, new in RENAMED_KEYS.items()}
    moved = {path: f"written {new}" for path, new in MOVED_KEYS.items()}
    for path, words in (renamed | moved).items():
        section: Any = document.data
        for part in path[:-1]:
            section = section.get(part) if isinstance(section, dict) else None
        if isinstance(section, dict) and path[-1] in section:
            problems.append((document.where_key(path), f"{'.'.join(path)} is now {words}"))
    if problems:
        raise ConfigError(*problems)


def _path_of(words: str, found_in: Sequence[str | int]) -> Path_:
    """Return the path of the value that a problem is about: checks of several values name it at the start of their message."""
    named = re.match(r"[a-z_]+(\.[a-z_]+)*", words)
    return (*found_in, *(named[0].split(".") if named else ()))


def refuse_unfit_components(document: Document, config: RlConfig, reward: RewardConfig | None) -> None:
    """Raise ConfigError if a setting names a component that the reward lacks, or that can't be used as the setting asks."""
    if reward is None:
        return
    named = []
    if config.algorithm.process is not None:
        named.append((("algorithm", "process", "component"), config.algorithm.process.component))
    noise = config.correction.verifier
    if noise is not None and noise.component is not None:
        named.append((("correction", "verifier", "component"), noise.component))
    problems = [
        (document.where(path), f"there is no component {name!r}{_hint(name, reward)}")
        for path, name in named
        if name not in reward.component_names
    ]
    if not problems and noise is not None and noise.component is not None:
        place = document.where(("correction", "verifier", "component"))
        problems += [(place, text) for text in _not_a_verdict(noise.component, reward)]
    if not problems and noise is not None:
        problems += [
            (document.where(("correction", "verifier", key)), text) for key, text in _not_asked_again(noise, reward)
        ]
    if problems:
        raise ConfigError(*problems)


def _hint(name: str, reward: RewardConfig) -> str:
    return did_you_mean(name, reward.component_names) or f"; there are {', '.join(reward.component_names)}"


def _not_a_verdict(name: str, reward: RewardConfig) -> Iterator[str]:
    """Yield why a flip of the component's value would not change the reward by the component's weight."""
    for composite in reward.composites.values():
        component: Component | None = next((item for item in composite.components if item.name == name), None)
        if component is None:
            continue
        where = f" of composite {composite.name!r}" if composite.name else ""
        if composite.combine != "sum":
            yield f"the components{where} are combined by {composite.combine!r}; correction.verifier.component needs 'sum'"
        if component.scale is not None or component.clip is not None:
            yield f"component {name!r}{where} is scaled or clipped, so its values are not verdicts of 0 and 1"
        if composite.clip is not None:
            yield f"the reward{where} is clipped, so the correction can't tell what a verdict adds to it; remove clip"


def _not_asked_again(noise: VerifierNoise, reward: RewardConfig) -> Iterator[tuple[str, str]]:
    """Yield why the verifier can't be asked again, each with the key that asks for it."""
    verifiers = [
        item
        for part in reward.composites.values()
        for item in part.components
        if noise.component is None or item.name == noise.component
    ]
    if noise.repeated and all(item.offer.type.deterministic for item in verifiers):
        names = ", ".join(sorted({item.offer.type.name for item in verifiers}))
        yield "repeated", f"equal completions always get the same verdict from {names}; remove repeated"
    elif noise.ask > 1 and reward.needs_groups:
        yield "ask", "the reward compares the completions of a group, so single ones can't be scored again; remove ask"


def _override(document: Document, path: str, text: str) -> None:
    """Replace a value of the file with one from the command line."""
    name = f"--set {path}={text}"
    value = parse_yaml(text, name).data if text.strip() else ""
    *parents, last = path.split(".")
    target: Any = document.data
    for index, part in enumerate(parents):
        target = target.setdefault(part, {})
        if not isinstance(target, dict):
            raise ConfigError((Location(name), f"{'.'.join(parents[: index + 1])} holds {show(target)}, not a mapping"))
        document.values.setdefault(tuple(parents[: index + 1]), Location(name))
    target[last] = value
    key = (*parents, last)
    for known in [known for known in document.values if known[: len(key)] == key]:
        del document.values[known]
    document.values[key] = document.keys[key] = Location(name)


def _reward(document: Document, folder: Path, registry: Registry, *path: str) -> RewardConfig | None:
    """Return the reward that the document names or contains at a path."""
    found: Any = document.data
    for part in path:
        found = found.get(part) if isinstance(found, dict) else None
    match found:
        case None:
            return None
        case str(name):
            file = Path(folder, name)
            if not file.is_file():
                raise ConfigError((document.where(path), f"the reward file {file} does not exist"))
            return resolve(read_yaml(file), registry)
        case dict(data):
            inner = Document(document.file, {"version": 1, **data}, document.lines)
            inner.values = _below(document.values, path)
            inner.keys = _below(document.keys, path)
            return resolve(inner, registry)
        case other:
            words = f"{'.'.join(path)} must be a file or a mapping with 'components', found {show(other)}"
            raise ConfigError((document.where(path), words))


def _below(places: Mapping[Path_, Location], top: Path_) -> dict[Path_, Location]:
    return {path[len(top) :]: place for path, place in places.items() if path[: len(top)] == top}
