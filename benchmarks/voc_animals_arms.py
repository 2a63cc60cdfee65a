"""The arms of the VOC-animals experiment: how each combines the CAM with which regions."""

from dataclasses import dataclass

from pfit_ray.config.sources import RegionSourceConfig
from pfit_ray.config.stages import CombineMode

SOURCES = (
    RegionSourceConfig(kind="slic"),
    RegionSourceConfig(kind="quickshift"),
    RegionSourceConfig(kind="felzenszwalb"),
    *(
        RegionSourceConfig(kind="felzenszwalb", name=f"felzenszwalb_{scale}", options={"scale": scale})
        for scale in (300, 1000)
    ),
    RegionSourceConfig(kind="slic", name="slic_raw", uss=False),
    RegionSourceConfig(kind="quickshift", name="quickshift_raw", uss=False),
    RegionSourceConfig(kind="features"),
)
"""All region sources of all arms; raw ones are superpixels without the CNN, a number is a scale other than 100."""

BOTH = ("slic", "quickshift")
FELZENSZWALB = ("felzenszwalb", "felzenszwalb_300", "felzenszwalb_1000")
FEATURES = SOURCES[-1].columns
"""All cuts of both trees."""


@dataclass(frozen=True)
class Arm:
    """One way from CAM and regions to seeds."""

    mode: CombineMode
    sources: tuple[str, ...] = BOTH
    rounds: int = 1


ARMS = {
    "none": Arm("none", ()),
    "fit": Arm("fit"),
    "pool": Arm("pool"),
    "pool_fit": Arm("pool_fit"),
    "pool-slic": Arm("pool", ("slic",)),
    "pool-quickshift": Arm("pool", ("quickshift",)),
    "pool-felzenszwalb": Arm("pool", ("felzenszwalb",)),
    "pool-raw": Arm("pool", ("slic_raw", "quickshift_raw")),
    "pool-three": Arm("pool", (*BOTH, "felzenszwalb")),
    "pool-five": Arm("pool", (*BOTH, *FELZENSZWALB)),
    "pool-five-twice": Arm("pool", (*BOTH, *FELZENSZWALB), rounds=2),
    "pool-felzenszwalb-two": Arm("pool", FELZENSZWALB[:2]),
    "pool-felzenszwalb-two-twice": Arm("pool", FELZENSZWALB[:2], rounds=2),
    "pool-felzenszwalb-three": Arm("pool", FELZENSZWALB),
    "pool_fit-three": Arm("pool_fit", (*BOTH, "felzenszwalb")),
    "pool-features": Arm("pool", FEATURES),
    "pool-features-twice": Arm("pool", FEATURES, rounds=2),
    "pool_fit-features": Arm("pool_fit", FEATURES),
    "pool_fit-features-twice": Arm("pool_fit", FEATURES, rounds=2),
    **{f"fit-features-{cut}": Arm("fit", tuple(f"features_{kind}_{cut}" for kind in BOTH)) for cut in (16, 32, 64)},
    "fit-features": Arm("fit", FEATURES),
}
"""By name; the names of `combine.mode` stand for the two published region sources."""

PUBLISHED = "fit"
"""The arm whose sureness the affinity labels of all others are brought to."""

WALKED = ("none", "fit", "pool", "pool_fit")
"""Arms whose affinity labels train an AffinityNet, and that go on to pseudo labels, unless others are named."""
