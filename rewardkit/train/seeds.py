"""Random numbers that depend on what they are for, not on what was drawn before: nothing of them needs to be kept."""

from __future__ import annotations

import hashlib


def step_seed(*parts: object) -> int:
    """A number of 63 bits that depends on these alone: the seed of a step, a prompt, a completion."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
