"""Logs of Inspect: ``.eval`` archives and ``.json`` files. Each sample is a row, and each scorer a component.

The archives are read without Inspect. Their members may be compressed with Zstandard, which Python's zipfile knows from 3.14 on only, so
that is done by pyarrow.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from rewardkit.errors import DataError
from rewardkit.view.adapters.lines import Rows, json_document, parse

ZSTANDARD = 93
_WORDS = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
"""The values of Inspect's grades: correct, incorrect, partial, no answer."""


def is_log(document: Any) -> bool:
    """Return whether a JSON document is a log of Inspect."""
    return isinstance(document, Mapping) and "eval" in document and "samples" in document


def rows(path: Path, at: int = 0) -> Rows:  # noqa: ARG001 - a log is read whole
    """Yield the samples of a log as scored rows.

    Raises:
        DataError: The log can't be read.
    """
    for sample in _samples(path):
        yield from_sample(sample), 0


def from_sample(sample: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scored row of a sample. The mean of its scorers is its reward; without any score it is unscored."""
    scores = sample.get("scores") or {}
    components = {name: _component(score) for name, score in scores.items()}
    known = [part["value"] for part in components.values() if part["value"] is not None]
    output = sample.get("output") or {}
    prompt = sample.get("input")
    messages = sample.get("messages") or []
    written = [message for message in messages[_prompt_end(messages) :] if isinstance(message, Mapping)]
    completion: Any = output.get("completion") or ""
    if len(written) > 1:
        completion = [{"role": part.get("role"), "content": part.get("content")} for part in written]
    usage = output.get("usage") or {}
    target = sample.get("target")
    error = sample.get("error")
    return {
        "prompt": prompt if isinstance(prompt, str) else list(prompt or ()),
        "completion": completion,
        "group": f"sample {sample.get('id')}",
        "reward": sum(known) / len(known) if known else None,
        "reward_status": "scored" if known else "unscored",
        "components": components,
        "answer": "".join(map(str, target)) if isinstance(target, list) else target,
        "epoch": sample.get("epoch"),
        "num_tokens": usage.get("output_tokens"),
        **{name: value for name, value in (sample.get("metadata") or {}).items() if name not in {"group", "step"}},
        **({"error": error.get("message")} if isinstance(error, Mapping) else {}),
    }


def _component(score: Mapping[str, Any]) -> dict[str, Any]:
    value = score.get("value")
    number: float | None = None
    if isinstance(value, (bool, int, float)):
        number = float(value)
    elif isinstance(value, str):
        number = _WORDS.get(value)
    if number is not None and number != number:  # noqa: PLR0124 - NaN is Inspect's unscored
        number = None
    unscored = score.get("reason") if number is None else None
    return {
        "value": number,
        "status": "scored" if number is not None else "unscored",
        "reason": " ".join(str(part) for part in (unscored, score.get("explanation")) if part),
        "extracted": score.get("answer"),
    }


def _prompt_end(messages: list[Any]) -> int:
    """Return the index of the first message that the model wrote."""
    return next((index for index, part in enumerate(messages) if part.get("role") == "assistant"), len(messages))


def _samples(path: Path) -> Iterator[dict[str, Any]]:
    if path.suffix == ".json":
        document = json_document(path)
        if not is_log(document):
            raise DataError(f"{path} is not a log of Inspect")
        yield from document["samples"] or ()
        return
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.filename.startswith("samples/") and member.filename.endswith(".json"):
                    yield parse(_content(archive, member), f"{path}: {member.filename}")
    except (OSError, zipfile.BadZipFile, pa.ArrowException, struct.error) as error:
        raise DataError(f"{path} can't be read as a log of Inspect: {error}") from error


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Return the content of a member of an archive."""
    if member.compress_type != ZSTANDARD:
        return archive.read(member)
    stream = archive.fp
    if stream is None:
        raise zipfile.BadZipFile("the archive is closed")
    stream.seek(member.header_offset + 26)
    name_length, extra_length = struct.unpack("<HH", stream.read(4))
    stream.seek(member.header_offset + 30 + name_length + extra_length)
    data = stream.read(member.compress_size)
    with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as content:
        found: bytes = content.read()
    return found
