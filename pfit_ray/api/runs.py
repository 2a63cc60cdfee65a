"""Runs in a notebook: start them, open them, look at what they found."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pfit_ray import storage
from pfit_ray.config import RunConfig, load_config
from pfit_ray.config.load import validate
from pfit_ray.errors import UserError
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.storage.drivers import quiet_drivers, reach

if TYPE_CHECKING:
    import pandas
    from PIL import Image

    from pfit_ray.api.labels import Labels
    from pfit_ray.results.export import Exported, Images


class Run:
    """A run directory and its config; made by `run` and `open`.

    Args:
        directory: where everything lies.
        config: what it was made with.
    """

    def __init__(self, directory: RunDirectory, config: RunConfig) -> None:
        self.directory = directory
        self.config = config

    def __repr__(self) -> str:
        return f"Run({self.root!r})"

    @property
    def root(self) -> str:
        """Folder or URL of the run."""
        return self.directory.root

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the foreground classes; the id of the first is 1."""
        return self.config.data.class_list.names

    @property
    def scores(self) -> dict[str, Any]:
        """Scores against ground truth by map, as evaluation.json has them; empty without ground truth."""
        reach(self.config.storage)
        found: dict[str, Any] = self.directory.read_json("evaluation.json") or {}
        return found

    def labels(self, kind: str | None = None) -> Labels:
        """The label maps.

        Args:
            kind: `pseudo_label`, `prediction`, or `affinity_label`, in which 255 is unsure; None takes the pseudo
                labels, or the predictions where there are no others.

        Raises:
            UserError: when the run has none.
        """
        from pfit_ray.api.labels import Labels

        return Labels(self.directory, self.config, kind)

    def failures(self, pass_name: str) -> pandas.DataFrame:
        """Images that a pass (`seeds`, `labels`, `predict`) could not finish: image_id, stage, reason, message, ..."""
        import pandas as pd

        from pfit_ray.rundir.finished import Ledger
        from pfit_ray.rundir.published import read_failures
        from pfit_ray.tasks.results import FAILURE_SCHEMA

        reach(self.config.storage)
        shards = Ledger(self.directory).shards(pass_name).failing().tolist()
        rows = [row for shard in shards for row in read_failures(self.directory, pass_name, shard)]
        return pd.DataFrame(rows, columns=FAILURE_SCHEMA.names)

    def show(self, image_id: str) -> Image.Image:
        """One picture of everything that the run knows of an image; a notebook displays it.

        Raises:
            UserError: when the run does not know the image, or cannot read it any more.
        """
        from PIL import Image

        from pfit_ray.results.contact_sheet import contact_sheet

        reach(self.config.storage)
        return Image.open(io.BytesIO(contact_sheet(self.config, self.directory, image_id)))

    def export(
        self, output: str, format_name: str, *, labels: str | None = None, images: Images = "copy",
        split: str = "train", license_name: str | None = None, polygons: bool = False,
    ) -> Exported:  # fmt: skip
        """Write images and labels in another tool's format; see docs/export.md and `pfit-ray export --help`."""
        from pfit_ray.results.export import ExportOptions, export_run

        reach(self.config.storage)
        options = ExportOptions(format_name, labels, split, images, license_name, polygons)
        return export_run(self.config, self.directory, output, options)

    @cached_property
    def suggested_thresholds(self) -> dict[str, dict[str, Any]]:
        """Thresholds that the CAM and the walked CAM suggest without ground truth; see docs/evaluate.md."""
        from pfit_ray.results.thresholds import suggested_thresholds

        reach(self.config.storage)
        return suggested_thresholds(self.directory)


def run(
    config: str | Mapping[str, Any], overrides: Sequence[str] = (), *, address: str | None = None,
    verbose: bool = False, force: bool = False,
) -> Run:  # fmt: skip
    """Do what is not finished of a config, as `pfit-ray run` does.

    Args:
        config: path or URL of a YAML file, or its content as nested mappings.
        overrides: `key=value` strings such as `cam.flip=false`, for a file.
        address: Ray cluster to join; a Ray that this process has joined is used as it is.
        verbose: keep Ray's messages.
        force: take the output over from another run that is certainly gone.

    Raises:
        UserError: a mistake in config or data, or another run is at work in the output, in one sentence.
        RunFailedError: when too many images fail.
    """
    if isinstance(config, str):
        loaded = load_config(config, overrides, storage.read_bytes)
    elif overrides:
        raise UserError("run: overrides are for a config file; change the mapping instead")
    else:
        loaded = validate(config)
    storage.configure(loaded.storage)

    from rich.console import Console

    from pfit_ray.runner.progress import Progress
    from pfit_ray.runner.run import Runner

    with quiet_drivers():
        outcome = Runner(loaded, Progress(Console()), force=force).run(address, verbose)
    return Run(outcome.run, loaded)


def open(url: str) -> Run:
    """Open a run directory, finished or not.

    Raises:
        UserError: when it is none.
    """
    from pfit_ray.rundir.directory import open_run

    return Run(*open_run(url))
