"""PNG shards: plain tar files of PNGs in the WebDataset convention, `<image_id>.png`."""

import io
import tarfile
from collections.abc import Iterable, Iterator

from pfit_ray import storage
from pfit_ray.errors import RowError, UserError

_SUFFIX = ".png"
_MODE = 0o644
_NAME_BYTES = 100
"""Bytes for the name at the beginning of a member's header."""


def pack_shard(items: Iterable[tuple[str, bytes]]) -> tuple[bytes, dict[str, tuple[int, int]]]:
    """Pack PNGs into a tar file; equal items give equal bytes.

    Args:
        items: image id and PNG bytes, in the order of the members.

    Returns:
        The tar file, and by image id the (offset, size) of its PNG in it.

    Raises:
        ValueError: when an image id occurs twice.
    """
    buffer = io.BytesIO()
    places: dict[str, tuple[int, int]] = {}
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for image_id, data in items:
            if image_id in places:
                raise ValueError(f"image id {image_id!r} occurs twice in one shard")
            member = tarfile.TarInfo(image_id + _SUFFIX)
            member.size, member.mode = len(data), _MODE
            archive.addfile(member, io.BytesIO(data))
            blocks = -(-len(data) // tarfile.BLOCKSIZE)
            places[image_id] = (archive.offset - blocks * tarfile.BLOCKSIZE, len(data))
    return buffer.getvalue(), places


def read_member(url: str, image_id: str, offset: int, size: int) -> bytes:
    """Read one PNG of a shard with one ranged read.

    Args:
        url: the shard.
        image_id: whose PNG is expected there.
        offset: where it begins, in bytes, as `pack_shard` tells.
        size: its length in bytes.

    Raises:
        RowError: like `storage.fetch`; `io_error` when something else lies there.
    """
    data = storage.fetch(url, max(0, offset - tarfile.BLOCKSIZE), offset + size)
    header = data[: tarfile.BLOCKSIZE]
    name = header[:_NAME_BYTES].rstrip(b"\0")
    if len(data) != tarfile.BLOCKSIZE + size or name != (image_id + _SUFFIX).encode()[:_NAME_BYTES]:
        raise RowError("io_error", f"{url} does not hold {image_id!r} at byte {offset}; the shard is damaged")
    return data[tarfile.BLOCKSIZE :]


def iterate_shard(url: str) -> Iterator[tuple[str, bytes]]:
    """Image id and PNG bytes of each member, in order.

    Raises:
        FileNotFoundError: when there is no such shard.
        UserError: when it is damaged.
    """
    data = storage.read_bytes(url)
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                file = archive.extractfile(member)
                if file is not None and member.name.endswith(_SUFFIX):
                    yield member.name.removesuffix(_SUFFIX), file.read()
    except tarfile.TarError as error:
        raise UserError(f"{url} is not a whole PNG shard ({error}); remove it and run again") from error
