"""Weight files of a bucket, kept on each node: each is fetched once, however many workers read it there."""

import hashlib
import json
import os
import re
import time
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path

from pfit_ray import storage
from pfit_ray.errors import UserError

CACHE_VARIABLE = "PFIT_RAY_CACHE"
"""Environment variable with the folder of the cache, for a disk with more room than the home directory."""

KEPT_SECONDS = 14 * 24 * 3600.0
"""A file that nobody has used for so long is removed when another one comes."""

_ENTRY = re.compile(r"(.+\.(?:pth|pt|ckpt|bin|tar))#([^#/]+)", re.IGNORECASE | re.DOTALL)


def weights_file(url: str) -> tuple[str, str | None]:
    """The file of a weights URL, and the entry that it names: `checkpoint.pth#teacher`, or `#model.ema`."""
    found = _ENTRY.fullmatch(url)
    return (url, None) if found is None or storage.exists(url) else (found[1], found[2])


def read_weights(url: str) -> bytes:
    """The bytes of a run's weight file, checked against the sha256 that the run recorded beside it.

    A file in a bucket is fetched once per node, into the cache folder; workers that want it at the same time wait for
    the one that fetches it. A file on disk, or one without a record, is read where it lies.

    Args:
        url: `<network>.safetensors`; its record is `<network>.json` beside it.

    Raises:
        FileNotFoundError: when there is no such file.
        UserError: when the file is not the one that the run recorded.
    """
    digest = _recorded(url)
    if digest is None:
        return storage.read_bytes(url)
    if storage.is_local(url):
        return _checked(url, storage.read_bytes(url), digest)
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"{digest}.safetensors"
    with FileLock(folder / f"{digest}.lock"):
        data = kept.read_bytes() if kept.exists() else b""
        if hashlib.sha256(data).hexdigest() == digest:
            kept.touch()
            return data
        data = _checked(url, storage.read_bytes(url), digest)
        _forget_unused(folder)
        storage.write_bytes(str(kept), data)
    return data


def cache_folder() -> Path:
    """Where this node keeps weight files."""
    given = os.environ.get(CACHE_VARIABLE)
    return (Path(given) if given else user_cache_path("pfit_ray")) / "weights"


def _checked(url: str, data: bytes, digest: str) -> bytes:
    """The bytes, if they are those that the run recorded."""
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise UserError(
            f"{url}: its sha256 is {found} and the run recorded {digest}; it was changed afterwards or is damaged: "
            "put the file back, or make the network again with --redo"
        )
    return data


def _recorded(url: str) -> str | None:
    """The sha256 that the run recorded, as 64 hexadecimal digits; None where there is no record."""
    record = url.removesuffix(".safetensors") + ".json"
    try:
        digest = str(json.loads(storage.read_bytes(record))["sha256"])
    except FileNotFoundError:
        return None
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise UserError(f"{record}: {digest!r} is not a sha256; provide the network again with --redo")
    return digest


def _forget_unused(folder: Path) -> None:
    limit = time.time() - KEPT_SECONDS
    for file in folder.glob("*.safetensors"):
        if file.stat().st_mtime < limit:
            file.unlink(missing_ok=True)
