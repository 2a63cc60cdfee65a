"""Config of what a run does about crashes, stuck calls and lost workers."""

from pfit_ray.config.base import Section, option


class FaultsConfig(Section):
    """When a worker's death or silence is taken for an image's fault."""

    shard_tries: int = option(
        3, "A shard whose workers die so often is taken apart: its images are tried alone.", unit="tries", ge=1, le=100
    )
    image_tries: int = option(
        2, "An image that kills its worker so often, alone, is recorded as crashed.", unit="tries", ge=1, le=100
    )
    stage_seconds: float = option(
        900.0,
        "A stage that takes longer for one image (or one batch of images) is stuck: its worker ends, as after a crash.",
        unit="seconds",
        gt=0.0,
    )
    silence_seconds: float = option(
        7200.0, "A pass in which nothing at all moves for so long ends with an error.", unit="seconds", gt=0.0
    )
    max_lost_shards: int = option(
        16, "A pass ends with an error when more shards than these, and than a tenth, lose all their tries.", ge=0
    )
