"""The steps of a run, and what each still has to do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from pfit_ray import storage
from pfit_ray.config import PASSES, Pass, RunConfig
from pfit_ray.errors import UserError
from pfit_ray.rundir.directory import IMAGE_SET, Network, RunDirectory
from pfit_ray.rundir.finished import Ledger, ShardCounts

NETWORK_OF: dict[Pass, Network] = {"seeds": "classifier", "labels": "affinitynet", "predict": "deeplab"}
"""The network that each pass runs, and that is provided before it."""

NEEDS: dict[Pass, Pass | None] = {"seeds": None, "labels": "seeds", "predict": None}
"""The pass whose results a pass reads."""


@dataclass(frozen=True)
class Step:
    """One step of a run and what it still has to do; `todo` is empty if it is finished."""

    kind: str
    name: str
    todo: str = ""


class Planner:
    """Tells from a run directory how far the steps of a config are.

    Args:
        config: the run's config.
        run: the run directory.
        ledger: counts of its finished shards.
        retry_failed: try failed images again.
    """

    def __init__(self, config: RunConfig, run: RunDirectory, ledger: Ledger, retry_failed: bool) -> None:
        self.config = config
        self.run_directory = run
        self.ledger = ledger
        self.retry_failed = retry_failed

    def steps(self) -> list[Step]:
        """All steps of the config in their order, and how far each is.

        Raises:
            UserError: when a pass lacks what an earlier one would have given it.
        """
        run, config = self.run_directory, self.config
        result: list[Step] = []
        for name in PASSES:
            if name not in config.passes:
                continue
            self._check_needs(name)
            network = self.network_of(name)
            image_sets = [IMAGE_SET[name]]
            if network == "classifier" and config.classifier.source == "train" and config.data.classifier:
                image_sets.insert(0, "classifier")
            for image_set in image_sets:
                listed = run.read_json("manifest", f"{image_set}.json")
                if ("manifest", image_set) not in [(step.kind, step.name) for step in result]:
                    result.append(Step("manifest", image_set, "" if listed else "list the images"))
            if network is not None:
                ready = storage.exists(run.weights(network))
                result.append(Step("network", network, "" if ready else self._network_todo(network)))
            listed = run.read_json("manifest", f"{IMAGE_SET[name]}.json")
            result.append(Step("pass", name, self._pass_todo(name, listed) or self._retry_todo(name)))
        finished = self._report_is_fresh() and not any(step.todo for step in result)
        result.append(Step("report", "evaluation", "" if finished else "score and draw contact sheets"))
        return result

    def report_fields(self) -> dict[str, Any]:
        """What the report depends on besides the passes."""
        return {"evaluate": self.config.evaluate.model_dump(mode="json"), "sheets": self.config.sheets}

    def _report_is_fresh(self) -> bool:
        run = self.run_directory
        return (
            storage.exists(run.url("evaluation.json")) and run.read_json("steps", "report.json") == self.report_fields()
        )

    def retry_shards(self, finished: ShardCounts) -> list[int]:
        """The finished shards whose failed images are tried again, ascending."""
        return finished.failing().tolist() if self.retry_failed else []

    def network_of(self, name: Pass) -> Network | None:
        """The network of a pass; none if CAMs come from another source than a classifier."""
        return None if name == "seeds" and self.config.cam.source != "classifier" else NETWORK_OF[name]

    def _network_todo(self, network: Network) -> str:
        section = getattr(self.config, network)
        if section.source == "train":
            return f"train {section.backbone.name} for {section.train.epochs} epochs"
        return f"take it from {section.weights or 'ImageNet rows'}"

    def _check_needs(self, name: Pass) -> None:
        needed = NEEDS[name]
        config = self.config
        if name == "predict" and config.deeplab.source == "train":
            needed = None if storage.exists(self.run_directory.weights("deeplab")) else "labels"
        if needed is None or needed in config.passes:
            return
        missing = self._pass_todo(needed, self.run_directory.read_json("manifest", f"{IMAGE_SET[needed]}.json"))
        if missing:
            raise UserError(
                f"pass {name} needs the results of pass {needed}, which {self.run_directory.root} does not have "
                f"({missing} to do); add {needed} to passes"
            )

    def _pass_todo(self, name: Pass, manifest: dict[str, Any] | None) -> str:
        if manifest is None:
            return "all images"
        left = manifest["shards"] - len(self.ledger.shards(name))
        return f"{left} of {manifest['shards']} shards" if left else ""

    def _retry_todo(self, name: Pass) -> str:
        finished = self.ledger.shards(name)
        failed = finished.total.failed if self.retry_failed else 0
        return f"{failed} failed images again" if failed else ""


def networks_of(steps: Sequence[Step]) -> list[Network]:
    """The networks that some steps provide."""
    return [cast(Network, step.name) for step in steps if step.kind == "network"]
