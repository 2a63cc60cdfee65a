"""PNG shards: plain tar files of PNGs in the WebDataset convention, `<image_id>.png`."""

import io
import tarfile
from collections.abc import Iterable, Iterator

from pfit_ray import storage
from pfit_ray.errors import RowError, UserError

_SUFFIX = ".png"
_MODE = 0o644


def pack_shard(items: Iterable[tuple[str, bytes]]) -> tuple[bytes, dict[str, tuple[int, int]]]:
    """Pack PNGs into a tar file; equal items give equal bytes.

    Args:
        items: image id and PNG bytes, in the order of the members.

    Returns:
        The tar file, and by image id the (offset, size) of its PNG in it.

    Raises:
        ValueError: when an image id stands twice.
    """
    buffer = io.BytesIO()
    places: dict[str, tuple[int, int]] = {}
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for image_id, data in items:
            if image_id in places:
                raise ValueError(f"image id {image_id!r} stands twice in one shard")
            member = tarfile.TarInfo(image_id + _SUFFIX)
            member.size, member.mode = len(data), _MODE
            archive.addfile(member, io.BytesIO(data))
            blocks = -(-len(data) // tarfile.BLOCKSIZE)
            places[image_id] = (archive.offset - blocks * tarfile.BLOCKSIZE, len(data))
    return buffer.getvalue(), places


def read_member(url: str, offset: int, size: int) -> bytes:
    """Read one PNG of a shard with one ranged read.

    Args:
        url: the shard.
        offset: where its PNG begins, in bytes, as `pack_shard` tells.
        size: its length in bytes.

    Raises:
        RowError: like `storage.fetch`; `io_error` when the shard is shorter.
    """
    data = storage.fetch(url, offset, offset + size)
    if len(data) != size:
        raise RowError("io_error", f"{url} ends before byte {offset + size}; the shard is damaged")
    return data


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
