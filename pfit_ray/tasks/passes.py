"""The three passes as chains of stages."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from pfit_ray.config import Pass, RunConfig
from pfit_ray.data.cam_sources import make_cam_source
from pfit_ray.rundir.directory import IMAGE_SET, RunDirectory
from pfit_ray.tasks.affinity_label import AffinityLabelStage, CombineStage, HrCamStage
from pfit_ray.tasks.base import Stage
from pfit_ray.tasks.cam import CamStage
from pfit_ray.tasks.cam_source import CamSourceStage
from pfit_ray.tasks.edge import EdgeStage
from pfit_ray.tasks.encode import EncodeStage
from pfit_ray.tasks.fetch import SOURCE_COLUMNS, FetchOperator, FinishedRows, SeedMaps, Upstream
from pfit_ray.tasks.fit import FitStage, PerimeterStage
from pfit_ray.tasks.operators import DecodeStage, FinishOperator, StageOperator
from pfit_ray.tasks.predict import PredictStage
from pfit_ray.tasks.prediction import PredictionStage
from pfit_ray.tasks.pseudo_label import PoolWalkStage, PseudoLabelStage, WalkStage
from pfit_ray.tasks.regions import RegionsStage
from pfit_ray.tasks.write import ShardWriter


@dataclass(frozen=True)
class PassPlan:
    """What one pass runs: its chain on network workers, which decodes the images, and its chain on CPU workers.

    `retry` runs only the failed rows of finished shards. `work` tells the shards that this
    plan has published from those that were finished before.

    Raises:
        RuntimeError: when a stage reads a column that nothing before it adds; see `Stage`.
    """

    name: Pass
    network: Sequence[Stage]
    finish: Sequence[Stage]
    upstream: Upstream | None = None
    retry: bool = False
    work: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        known = {*SOURCE_COLUMNS, *(self.upstream.adds if self.upstream else ())}
        for stage in (*self.network, *self.finish):
            lacking = [column for column in stage.reads if column not in known]
            if lacking:
                raise RuntimeError(
                    f"pass {self.name}: stage {stage.name} reads the column {lacking[0]!r}, which no stage before it "
                    "adds; put it behind the stage that does, or name the column in that stage's `adds`"
                )
            if stage.adds is None:
                return
            known.update(stage.adds)

    def operators(self, config: RunConfig, run: RunDirectory) -> tuple[FetchOperator, StageOperator, FinishOperator]:
        """The pass's three operators."""
        threads, seconds = config.resources, config.faults.stage_seconds
        writer = ShardWriter(run, self.name, config.region_names, work=self.work, replaces=self.retry)
        decode = next((stage for stage in self.network if isinstance(stage, DecodeStage)), None)
        return (
            FetchOperator(
                run,
                IMAGE_SET[self.name],
                self.upstream,
                FinishedRows(run, self.name, self.work) if self.retry else None,
                threads.fetch.threads,
                self.work,
            ),
            StageOperator(self.network, threads.network.threads, threads.network.batch_size, seconds),
            FinishOperator(self.finish, threads.cpu.threads, writer, seconds, decode),
        )


def plan_pass(name: Pass, config: RunConfig, run: RunDirectory) -> PassPlan:
    """The chains of one pass as its config says."""
    decode = DecodeStage(config.images.max_pixels)
    encode = EncodeStage(name, config.cam_stored_as, config.region_names)
    if name == "seeds":
        regions = _region_stages(config)
        beside_cam = [stage for stage in regions if stage.source.levels or stage.source.in_network]
        levels = sorted({level for stage in beside_cam for level in stage.source.levels})
        return PassPlan(
            name,
            network=[decode, _cam_stage(config, run, levels), *beside_cam],
            finish=[
                HrCamStage(crop=config.fidelity_of("cam") == "reference"),
                *(stage for stage in regions if stage not in beside_cam),
                *_fit_stages(config),
                CombineStage(config.combine_mode, config.region_names, config.combine.rounds),
                AffinityLabelStage(config.affinity_label, config.used_crf_engine, config.combine_mode),
                encode,
            ],
        )
    if name == "labels":
        reference = config.fidelity_of("walk") == "reference"
        work = uuid.uuid4().hex
        return PassPlan(
            name,
            work=work,
            upstream=SeedMaps(run, config.walk.source, config.pooled_regions, work),
            network=[decode, EdgeStage(run.weights("affinitynet"), config.walk, reference, config.engine_of("labels"))],
            finish=[
                WalkStage(config.walk),
                *([PoolWalkStage(config.pooled_regions)] if config.pooled_regions else []),
                PseudoLabelStage(config.pseudo_label, config.used_crf_engine),
                encode,
            ],
        )
    reference = config.fidelity_of("predict") == "reference"
    return PassPlan(
        name,
        network=[decode, PredictStage(run.weights("deeplab"), config.predict, reference, config.engine_of("predict"))],
        finish=[PredictionStage(config.predict, config.used_crf_engine), encode],
    )


def _region_stages(config: RunConfig) -> list[RegionsStage]:
    if not config.region_names:
        return []
    reference = config.fidelity_of("regions") == "reference"
    return [RegionsStage(source, config.regions, reference) for source in config.regions.sources]


def _fit_stages(config: RunConfig) -> list[Stage]:
    """Perimeters and masks, which carry the score mask_agreement also where the CAM is only pooled."""
    if not config.region_names:
        return []
    reference = config.fidelity_of("fit") == "reference"
    return [
        PerimeterStage(config.fit, reference, config.region_names),
        FitStage(config.fit, reference, config.regions.sources),
    ]


def _cam_source_stage(config: RunConfig) -> CamSourceStage:
    names = config.data.class_list.names
    return CamSourceStage(make_cam_source(config.cam, names), config.predicted_labels, len(names))


def _cam_stage(config: RunConfig, run: RunDirectory, levels: Sequence[int]) -> Stage:
    cam = config.cam
    if cam.source != "classifier":
        return _cam_source_stage(config)
    if config.fidelity_of("cam") == "reference":
        cam = cam.model_copy(update={"max_side": None, "precision": "float32"})
    names, engine = config.data.class_list.names, config.engine_of("seeds")
    return CamStage(run.weights("classifier"), cam, config.predicted_labels, names, levels, engine)
