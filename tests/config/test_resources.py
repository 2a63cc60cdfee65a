import pytest
from pydantic import ValidationError

from pfit_ray.config.resources import ResourcesConfig


def test_only_networks_and_trainings_take_gpus_by_themselves() -> None:
    resources = ResourcesConfig()
    assert (resources.fetch.gpus, resources.cpu.gpus) == (0.0, 0.0)
    assert (resources.network.gpus, resources.train.gpus_per_worker) == (None, None)


def test_a_stage_given_in_part_keeps_its_own_defaults() -> None:
    resources = ResourcesConfig.model_validate({"fetch": {"workers": 4}})
    assert (resources.fetch.workers, resources.fetch.cpus, resources.fetch.gpus) == (4, 0.25, 0.0)


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"network": {"cpus": 0}}, ("network", "cpus")),
        ({"network": {"gpus": -1}}, ("network", "gpus")),
        ({"cpu": {"workers": 0}}, ("cpu", "workers")),
        ({"cpu": {"threads": 65}}, ("cpu", "threads")),
        ({"network": {"batch_size": 0}}, ("network", "batch_size")),
        ({"cpu": {"memory_mb": 0}}, ("cpu", "memory_mb")),
        ({"cpu": {"batch_size": 2}}, ("cpu", "batch_size")),
        ({"train": {"max_failures": -1}}, ("train", "max_failures")),
        ({"object_store_mb": 79}, ("object_store_mb",)),
    ],
)
def test_out_of_range(given: dict, place: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        ResourcesConfig.model_validate(given)
    assert caught.value.errors()[0]["loc"] == place
