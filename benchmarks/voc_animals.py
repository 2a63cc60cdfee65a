"""How good seeds, labels and the final network become by combination of CAM and regions: docs/research/results.md.

    python benchmarks/voc_animals.py --root VOC2012 --classifier animals.safetensors [another seed's ...] \
      --cache FOLDER [--split val] [--images 60] [--seeds 1] [--arms none,fit,pool] [--walk none,pool] \
      [--maps "cam,cam pooled"] [--sure 0.40/0.10] [--until seeds|labels|walks|final] [--final fit] [--val 200] \
      [--final-seeds 2] [--sheets FOLDER] [--set deeplab.train.epochs=2 ...]

Photographs are the first of `train`, or of `--split val`, after a shuffle with seed 1. Every threshold is chosen on one
half of them and scored on the other, both ways round, so that no number is tuned on what it reports. Affinity labels of
all arms are brought to the same sureness, that of the published combination with its thresholds, so that their coverage
can be compared. Each walked arm trains an AffinityNet on its own affinity labels. For each arm named by `--final`, one
DeepLabv3+ learns from the pseudo labels of the walked CAM and others from those of each pooled walk; all are scored on
photographs of `val` beside one that has learned from ground truth.

What is measured of a photograph lies in the cache, so that a run that was stopped goes on, also with more images,
seeds or arms; give a new folder after changing code or what `--set` says of a stage. About 20 CPU-seconds a photograph,
and some minutes for each training.
"""

import argparse
import os
from pathlib import Path

import numpy as np
from measuring import photographs
from voc_animals_arms import ARMS, PUBLISHED, SOURCES, WALKED
from voc_animals_bench import WALKED_MAPS, Bench, digest
from voc_animals_experiment import Experiment
from voc_animals_sheets import write_sheets
from voc_animals_tables import print_finals, print_labels, print_seeds, print_walks
from voc_animals_training import CONFIG

from pfit_ray.config import RunConfig, load_config
from pfit_ray.data.sources.item import Item
from pfit_ray.nets.weights import save_network
from pfit_ray.train.provide import given_network

RECIPE = (
    "classifier.backbone.name=efficientnet_lite0",
    *(
        f"{network}.{setting}"
        for network in ("affinitynet", "deeplab")
        for setting in (
            "backbone={name: efficientnet_lite0, weights: package}",
            "train.batch_size=8",
            "train.optimiser=sgd",
        )
    ),
    *(
        f"affinitynet.train.{setting}"
        for setting in ("epochs=10", "learning_rate=0.04", "min_side=256", "max_side=384", "crop=256")
    ),
    *(
        f"deeplab.train.{setting}"
        for setting in ("epochs=16", "learning_rate=0.0015", "min_side=128", "max_side=224", "crop=128")
    ),
    "affinity_label.fg_threshold=null",
    "affinity_label.bg_threshold=null",
    "regions.uss.fused=true",
    "predict.scales=[0.5]",
    "images.max_pixels=1000000",
)
STEPS = ("seeds", "labels", "walks", "final")


def main() -> None:
    """Measure what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="a VOC folder")
    parser.add_argument("--classes", default="cat,cow,dog,horse,person,sheep", help="the classifier's, in its order")
    parser.add_argument("--classifier", required=True, nargs="+", help="weight files on EfficientNet-Lite0, one a seed")
    parser.add_argument("--cache", required=True, type=Path, help="folder that keeps what was measured")
    parser.add_argument("--split", default="train", help="whose photographs; the final network learns from train")
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--val", type=int, default=200, help="photographs of val for the final network")
    parser.add_argument("--seeds", type=int, help="only the first so many classifiers")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--walk", default=",".join(WALKED), help="the arms that go on to pseudo labels")
    parser.add_argument("--maps", default=",".join(WALKED_MAPS), help="what walks, and whether it is pooled afterwards")
    parser.add_argument("--final", default=PUBLISHED, help="the arms whose pseudo labels train a DeepLabv3+")
    parser.add_argument("--final-seeds", type=int, default=1, help="so many seeds of each DeepLabv3+, a table each")
    parser.add_argument("--set", nargs="*", default=(), metavar="FIELD=VALUE", help="words of the config")
    parser.add_argument("--sure", help="thresholds of affinity labels instead of chosen ones, such as 0.40/0.10")
    parser.add_argument("--until", choices=STEPS, default=STEPS[-1])
    parser.add_argument("--sheets", type=Path, help="folder for contact sheets of pseudo labels that fail")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    given = parser.parse_args()
    arms, maps = given.arms.split(","), given.maps.split(",")
    walked = [name for name in given.walk.split(",") if name in arms]
    final = [name for name in given.final.split(",") if name in walked]
    for name in (*arms, *given.walk.split(","), *given.final.split(",")):
        if name not in ARMS:
            parser.error(f"there is no arm {name!r}; there are {', '.join(ARMS)}")
    if unknown := sorted(set(maps) - set(WALKED_MAPS)):
        parser.error(f"there is no map {unknown[0]!r}; there are {', '.join(WALKED_MAPS)}")
    if given.split != "train" and given.until == "final":
        parser.error("the final network is scored on val: give --split together with --until walks, or less")
    config = load_config(
        str(CONFIG), [f"data.root={given.root}", f"data.classes=[{given.classes}]", *RECIPE, *given.set]
    )
    config = config.model_copy(update={"regions": config.regions.model_copy(update={"sources": SOURCES})})
    items, val = photographs(config, given.split, given.images), photographs(config, "val", given.val)
    for number, file in enumerate(given.classifier[: given.seeds], start=1):
        bench = Bench(config, _classifier(config, file, given.cache), given.cache)
        print(f"classifier {number}, {digest(file)}, {len(items)} photographs")
        experiment = Experiment(bench, items, arms, given.processes, maps)
        walks = _walks(experiment, walked, STEPS.index(given.until), given.sure, given.sheets)
        if given.until == "final":
            kinds = [one for one in maps if one.startswith("cam")]
            learned = {f"{name}{one.removeprefix('cam')}": walks[name][one] for name in final for one in kinds}
            for seed in range(given.final_seeds):
                _finals(experiment, learned, val, seed)


def _walks(
    experiment: Experiment, names: list[str], until: int, sure: str | None, sheets: Path | None
) -> dict[str, dict[str, list[np.ndarray]]]:
    """All before the final network; pseudo labels of each arm by what walked."""
    sweeps = experiment.seeds(*([PUBLISHED] if until else []))
    print_seeds(experiment.arms, sweeps)
    if until < STEPS.index("labels"):
        return {}
    thresholds = {name: experiment.thresholds(sweeps, name) for name in names}
    if sure is not None:
        high, low = map(float, sure.split("/"))
        thresholds = {name: (((high, low), (high, low)), (high, low)) for name in names}
    labels = {name: experiment.labels(name, thresholds[name][0]) for name in names}
    print_labels({name: matrices for name, (_, matrices) in labels.items()}, thresholds)
    if until < STEPS.index("walks"):
        return {}
    files = {name: experiment.trained("affinitynet", name, labels[name][0]) for name in names}
    walks = {name: experiment.walks(name, files[name]) for name in names}
    print_walks({name: matrices for name, (matrices, _) in walks.items()})
    if sheets is not None:
        for name, (_, pseudo) in walks.items():
            write_sheets(experiment.bench, experiment.items, name, files[name], pseudo, sheets)
    return {name: pseudo for name, (_, pseudo) in walks.items()}


def _finals(experiment: Experiment, learned: dict[str, list[np.ndarray]], val: list[Item], seed: int) -> None:
    learned = {"ground truth": experiment.truths(), **learned}
    files = {name: experiment.trained("deeplab", name, maps, seed) for name, maps in learned.items()}
    print_finals({name: experiment.predictions(name, file, val) for name, file in files.items()})


def _classifier(config: RunConfig, given: str, folder: Path) -> str:
    """A classifier as a file of our own, which says what it holds."""
    section = config.classifier.model_copy(update={"source": "weights", "weights": given})
    path = folder / f"classifier {digest(given)}.safetensors"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(
            save_network(given_network(config.model_copy(update={"classifier": section}), "classifier"), {})
        )
    return str(path)


if __name__ == "__main__":
    main()
