"""What a large corpus costs: its listing, and runs over more and more images.

    python benchmarks/scale.py manifest [--keys 1000000] [--files 50000] [--shard-size 64]
    python benchmarks/scale.py run [--images 100 1000 10000] [--shard-size 16] [--side 48]
    python benchmarks/scale.py corpus [--images 100000] [--places disk bucket] [--done 0.95] [--kill-at 0.3 0.6 0.95]

`manifest` lists a table of so many synthetic images, and a folder tree of so many empty files, and writes their
manifests; each in a process of its own, whose seconds, CPU seconds and peak memory are printed. `run` takes so many
small images through pass 3 and prints the time per image once results flow, the CPU time of its stages and the ratio of
the two, and the peak memory (PSS) of the driver and of the largest worker. `corpus` takes so many images through all
passes with fakes in the place of the stages, on disk and in a bucket on loopback that answers late, and prints the
driver's peak memory, objects, requests by kind, and the seconds before the first shard and after the last; the driver
may be killed on the way, or find a share of the shards finished.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from scale_corpus import measure_corpus
from scale_run import measure_runs

from pfit_ray.config.data import DataConfig, ImageSetConfig
from pfit_ray.data.sources.listing import list_images
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.rundir.manifest import write_manifest

FOLDERS = 200


class Cost(NamedTuple):
    """What one listing took."""

    images: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int


def main() -> None:
    """Run the chosen benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    manifest = commands.add_parser("manifest", help="list images and write the manifest")
    manifest.add_argument("--keys", type=int, default=1_000_000, help="rows of the table")
    manifest.add_argument("--files", type=int, default=50_000, help="files of the folder tree")
    manifest.add_argument("--shard-size", type=int, default=64, help="images per shard")
    manifest.set_defaults(command=measure_manifest)
    runs = commands.add_parser("run", help="take images through pass 3")
    runs.add_argument("--images", type=int, nargs="+", default=[100, 1_000, 10_000], help="numbers of images")
    runs.add_argument("--shard-size", type=int, default=16, help="images per shard")
    runs.add_argument("--side", type=int, default=48, help="pixels along the sides of an image")
    runs.set_defaults(command=measure_runs)
    corpus = commands.add_parser("corpus", help="a whole run whose stages are fakes")
    corpus.add_argument("--images", type=int, default=100_000, help="number of images")
    corpus.add_argument("--passes", nargs="+", default=["seeds", "labels", "predict"], help="passes to run")
    corpus.add_argument("--places", nargs="+", default=["disk", "bucket"], help="disk, bucket")
    corpus.add_argument("--latency", type=float, default=0.02, help="seconds that the bucket waits before it answers")
    corpus.add_argument("--shard-size", type=int, help="images per shard; the package's default if it is not given")
    corpus.add_argument("--side", type=int, default=48, help="pixels along the sides of an image")
    corpus.add_argument("--done", type=float, default=0.0, help="share of the shards that are finished beforehand")
    corpus.add_argument("--kill-at", type=float, nargs="*", default=[], help="shares at which the driver is killed")
    corpus.add_argument("--scratch", help="folder for what is written; the system's temporary one if it is not given")
    corpus.set_defaults(command=measure_corpus)
    arguments = parser.parse_args()
    arguments.command(arguments)


def measure_manifest(arguments: argparse.Namespace) -> None:
    """Print what the manifests of a table and of a folder tree cost."""
    sources: dict[str, tuple[Callable[[Path, int], dict[str, Any]], int]] = {
        "table": (make_table, arguments.keys),
        "table with ids and labels": (make_labelled_table, arguments.keys),
        "folder": (make_folder, arguments.files),
    }
    print(f"{'source':<26} {'images':>9} {'seconds':>8} {'CPU s':>8} {'peak MB':>8}")
    for name, (make, count) in sources.items():
        with tempfile.TemporaryDirectory() as place:
            source = make(Path(place), count)
            spawned = multiprocessing.get_context("spawn")  # a process that has not held the synthetic keys
            with ProcessPoolExecutor(1, mp_context=spawned) as pool:
                cost = pool.submit(list_and_write, source, place, arguments.shard_size).result()
        megabytes = cost.peak_bytes / 1e6
        print(f"{name:<26} {cost.images:>9} {cost.seconds:>8.1f} {cost.cpu_seconds:>8.1f} {megabytes:>8.0f}")


def list_and_write(source: dict[str, Any], place: str, shard_size: int) -> Cost:
    """Write the manifest of a source in this process."""
    data = DataConfig(classes=("cat", "dog"), **source)
    begun, cpu = time.perf_counter(), time.process_time()
    summary = write_manifest(
        RunDirectory(str(Path(place) / "run")), "train", list_images(data, ImageSetConfig()), shard_size
    )
    seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in kB
    return Cost(summary["images"], seconds, cpu_seconds, peak)


def make_table(place: Path, count: int) -> dict[str, Any]:
    """A CSV of paths in folders, whose ids are hashes."""
    with open(place / "images.csv", "w") as file:
        file.write("image\n")
        file.writelines(f"{number % FOLDERS:03d}/photo_{number:09d}.jpg\n" for number in range(count))
    return {"source": "table", "table": str(place / "images.csv"), "root": "s3://bucket/photos"}


def make_labelled_table(place: Path, count: int) -> dict[str, Any]:
    """A CSV of URLs with ids and labels."""
    with open(place / "images.csv", "w") as file:
        file.write("image,image_id,classes,size\n")
        file.writelines(
            f"s3://bucket/photos/{number * 7919 % count:09d}.jpg,photo_{number * 7919 % count:09d},cat;dog,100000\n"
            for number in range(count)
        )
    return {"source": "table", "table": str(place / "images.csv")}


def make_folder(place: Path, count: int) -> dict[str, Any]:
    """Empty files in folders on this machine's disk."""
    for folder in range(FOLDERS):
        (place / "photos" / f"{folder:03d}").mkdir(parents=True)
    for number in range(count):
        (place / "photos" / f"{number % FOLDERS:03d}" / f"photo_{number:09d}.jpg").touch()
    return {"source": "folder", "root": str(place / "photos")}


if __name__ == "__main__":
    main()
