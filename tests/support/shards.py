"""Where the files of a shard lie: as its marker says, and as versions named them whose markers do not."""

from pfit_ray import storage
from pfit_ray.rundir.directory import RunDirectory


def fixed(run: RunDirectory, name: str, kind: str, shard: int) -> str:
    """URL of the `rows`, `labels` or `failures` of a shard whose marker names no files."""
    return storage.join(run.folder(name, kind), f"{shard:05d}.{'tar' if kind == 'labels' else 'parquet'}")


def current(run: RunDirectory, name: str, kind: str, shard: int) -> str:
    """URL of the `rows`, `labels` or `failures` of a finished shard."""
    files = run.published(name, shard)
    assert files is not None
    file = getattr(files, kind)
    assert file is not None
    return str(file.url)


def mark(run: RunDirectory, name: str, shard: int, failed: int = 0) -> None:
    """Write the marker of a shard whose files have fixed names."""
    marker = {"shard": shard, "ok": 1, "failed": failed, "reasons": {}, "stages": {}}
    run.write_json(marker, name, "done", f"{shard:05d}.json")
