"""The writer of sharded files. It is a module of its own because it is a class of torch.distributed.checkpoint, which loads slowly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.checkpoint._hf_utils import CUSTOM_METADATA_KEY, SAVED_OFFSETS_KEY
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import MetadataIndex
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future


class TensorWriter(HuggingFaceStorageWriter):
    """Writes safetensors files from the memory of the tensors themselves.

    torch's own writer puts each file together in main memory first, twice: that takes 3 GB for the embedding of a small model and its
    two moments.
    """

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Write the tensors that this process holds, file by file."""
        storage: dict[str, Any] = plan.storage_data
        numbers: dict[str, int] = storage["fqn_to_index_mapping"]
        shard, files = int(storage["shard_index"]), max(numbers.values())
        by_number: dict[int, list[Any]] = {}
        for item in plan.items:
            by_number.setdefault(numbers[item.index.fqn], []).append(item)
        results = []
        for number, items in by_number.items():
            name = f"shard-{shard:05d}-model-{number:05d}-of-{files:05d}.safetensors"
            tensors = {item.index.fqn: _in_main_memory(planner.resolve_data(item)) for item in items}
            places = {item.index.fqn: {SAVED_OFFSETS_KEY: list(item.tensor_data.chunk.offsets)} for item in items}
            save_file(tensors, Path(self.path) / name, {CUSTOM_METADATA_KEY: json.dumps(places), "format": "pt"})
            results += [
                WriteResult(MetadataIndex(key, places[key][SAVED_OFFSETS_KEY]), value.nbytes, name)
                for key, value in tensors.items()
            ]
        done: Future[list[WriteResult]] = Future()
        done.set_result(results)
        return done


def _in_main_memory(tensor: Any) -> Tensor:
    """Return a contiguous tensor in main memory: the tensor itself if it is one, and no part of a larger tensor."""
    found: Tensor = tensor.detach().cpu().contiguous()
    return found.clone() if found.untyped_storage().nbytes() != found.nbytes else found
