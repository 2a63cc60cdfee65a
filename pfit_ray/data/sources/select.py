"""Which images of a source a run takes: a share of them, or one of n parts."""

import hashlib
from collections.abc import Callable

from pfit_ray.config.data import DataConfig

_HASH_BYTES = 8


def selection(data: DataConfig) -> Callable[[str], bool]:
    """Whether a run takes an image, by its id.

    An image is in the sample where the 64-bit hash of `data.sample_seed` and its id lies below the share
    `data.sample` of all hashes, and in part i of n where another hash of its id is i - 1 modulo n. Both depend on
    nothing else, so that the parts of one corpus are disjoint and complete, and a larger sample holds the smaller.
    """
    bound = None if data.sample is None else int(data.sample * 2 ** (8 * _HASH_BYTES))
    part, parts = data.shard_numbers

    def taken(image_id: str) -> bool:
        if parts > 1 and _hash("shard", image_id) % parts != part - 1:
            return False
        return bound is None or _hash(f"sample {data.sample_seed}", image_id) < bound

    return taken


def _hash(purpose: str, image_id: str) -> int:
    digest = hashlib.blake2b(f"{purpose}\n{image_id}".encode(), digest_size=_HASH_BYTES).digest()
    return int.from_bytes(digest, "big")
