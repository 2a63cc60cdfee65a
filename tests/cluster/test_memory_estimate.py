from typing import Any

import pytest
from support.sentences import facts

from pfit_ray.cluster.memory_estimate import MEBIBYTE, WorkerMemory, fit_memory, worker_memory
from pfit_ray.config import RunConfig
from pfit_ray.config.load import validate
from pfit_ray.errors import UserError


def config(**fields: Any) -> RunConfig:
    return validate({"output": "run", "data": {"source": "voc", "root": "voc"}, **fields})


SMALL_IMAGES = {"images": {"max_pixels": 250_000}}
STATED = {name: {"memory_mb": 1000} for name in ("fetch", "network", "cpu")}


def each(mebibytes: int) -> dict[str, float]:
    return dict.fromkeys(("fetch", "network", "cpu"), float(mebibytes * MEBIBYTE))


def megabytes(memory: WorkerMemory) -> tuple[int, int, int]:
    return (memory.fetch // MEBIBYTE, memory.network // MEBIBYTE, memory.cpu // MEBIBYTE)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        # 12 megapixels: DeepLabv3+ sees 2048 x 2048 twice, at 650 B; of the rest the CRF of labels takes most.
        ({}, (320, 5864, 4532)),
        # 500 x 500, the network at scale 2; of the rest the unsupervised segmentation takes most.
        (SMALL_IMAGES, (320, 1903, 1290)),
        ({**SMALL_IMAGES, "passes": ["seeds"]}, (320, 1522, 1290)),
        ({**SMALL_IMAGES, "passes": ["labels"]}, (320, 878, 744)),
        ({**SMALL_IMAGES, "shard_size": 1}, (260, 1843, 1230)),
        # Published programs never shrink.
        ({"fidelity": "reference", "images": {"max_pixels": 2_000_000}}, (320, 10582, 5293)),
        ({"resources": {"network": {"batch_size": 2}}, **SMALL_IMAGES}, (320, 3143, 1290)),
        ({"resources": {"cpu": {"memory_mb": 900}}, **SMALL_IMAGES}, (320, 1903, 900)),
        ({"resources": STATED}, (1000, 1000, 1000)),
    ],
)
def test_estimates(fields: dict, expected: tuple[int, int, int]) -> None:
    assert megabytes(worker_memory(config(**fields), gpu=False)) == expected


def test_fused_workers_take_the_larger_estimate() -> None:
    assert megabytes(worker_memory(config(**SMALL_IMAGES), gpu=False, fused=True)) == (664, 1903, 0)
    cpu_alone = config(resources={"network": {"memory_mb": 900}}, **SMALL_IMAGES)
    assert megabytes(worker_memory(cpu_alone, gpu=False, fused=True)) == (664, 900, 0)
    assert megabytes(worker_memory(config(**SMALL_IMAGES), gpu=True, fused=True)) == (320, 1290, 0)


def test_on_a_gpu_the_host_holds_images_only() -> None:
    assert megabytes(worker_memory(config(**SMALL_IMAGES), gpu=True))[1] == 797


def test_only_the_regions_that_take_part_count() -> None:
    def cpu(**fields: Any) -> int:
        return megabytes(worker_memory(config(passes=["seeds"], **SMALL_IMAGES, **fields), gpu=False))[2]

    both, none = cpu(), cpu(combine={"mode": "none"})
    raw = cpu(regions={"sources": [{"kind": "slic", "uss": False}, "felzenszwalb"]})
    three = cpu(regions={"sources": ["slic", "quickshift", "felzenszwalb"]})
    assert none == raw < both < three == both + 3  # MiB: 12 B x 250,000 pixels


def test_larger_limits_never_take_less() -> None:
    last = (0, 0, 0)
    for side in (32, 100, 1000, 3000, None):
        limits = {name: {"max_side": side} for name in ("cam", "walk", "predict")}
        found = megabytes(worker_memory(config(**limits, regions={"uss": {"max_side": side}}), gpu=False))
        assert all(more >= less for more, less in zip(found, last, strict=True))
        last = found


def test_what_fits_is_kept() -> None:
    memory, warning = fit_memory(config(resources=STATED), False, 3000 * MEBIBYTE, each(1000))
    assert (megabytes(memory), warning) == ((1000, 1000, 1000), None)


def test_estimates_are_lowered_to_what_there_is() -> None:
    memory, warning = fit_memory(config(**SMALL_IMAGES), False, 1000 * MEBIBYTE, each(1000))
    assert megabytes(memory) == (91, 541, 367)
    assert facts(warning) == ["3,514", "1,000", "images.max_pixels", "docs/memory.md"]


def test_estimates_of_two_fused_workers_are_lowered() -> None:
    largest = {name: size for name, size in each(2000).items() if name != "cpu"}
    memory, warning = fit_memory(config(**SMALL_IMAGES), False, 2000 * MEBIBYTE, largest)
    assert megabytes(memory) == (296, 851, 0)
    assert facts(warning) == ["4,472", "2,000", "images.max_pixels", "docs/memory.md"]


def test_estimates_are_lowered_to_the_largest_node() -> None:
    memory, warning = fit_memory(config(**SMALL_IMAGES), False, 9000 * MEBIBYTE, each(1000))
    assert megabytes(memory) == (320, 1000, 1000)
    assert warning is not None


@pytest.mark.parametrize(
    ("resources", "told"),
    [
        (
            {"cpu": {"memory_mb": 5000}},
            ["resources.cpu.memory_mb", "5,000", "3,000"],
        ),
        (
            {"cpu": {"memory_mb": 3000}, "network": {"memory_mb": 2000}},
            ["resources.cpu.memory_mb", "3000", "resources.network.memory_mb", "2000", "4,000"],
        ),
    ],
)
def test_what_is_stated_and_does_not_fit_is_refused(resources: dict, told: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        fit_memory(config(resources=resources), False, 4000 * MEBIBYTE, each(3000))
    assert facts(caught.value) == told
