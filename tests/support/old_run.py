"""A finished run that an older version has written, as tests/fixtures has it: two images, a letter and no weights."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from support.places import REPOSITORY

FORMAT_0 = REPOSITORY / "tests" / "fixtures" / "run_0"
"""Written before configs carried a format; `run` in it is the run directory, beside it lie the images."""

_HOME = "/old"
"""Where it was made; no machine has this folder."""


def unpacked(folder: Path, fixture: Path = FORMAT_0) -> Path:
    """A copy of the run directory that believes to have been made where it lies; its weight files are empty."""
    shutil.copytree(fixture, folder, dirs_exist_ok=True)
    for path in [folder / "run" / "config.yaml", *(folder / "run" / "steps").glob("*.json")]:
        path.write_text(path.read_text().replace(_HOME, str(folder)))
    for path in folder.rglob("*.parquet"):
        _move(path, str(folder))
    for network in ("classifier", "affinitynet", "deeplab"):
        (folder / "run" / "checkpoints" / f"{network}.safetensors").touch()
    return folder / "run"


def _move(path: Path, home: str) -> None:
    """Give the texts of a table another home; each row group stays one."""
    with pq.ParquetFile(path) as file:
        groups = [file.read_row_group(group) for group in range(file.num_row_groups)]
    with pq.ParquetWriter(path, groups[0].schema, compression="zstd", write_statistics=False) as writer:
        for group in groups:
            rows = [
                {name: value.replace(_HOME, home) if isinstance(value, str) else value for name, value in row.items()}
                for row in group.to_pylist()
            ]
            writer.write_table(pa.Table.from_pylist(rows, group.schema), row_group_size=max(len(rows), 1))
