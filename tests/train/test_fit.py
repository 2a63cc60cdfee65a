import os
import signal
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open

from pfit_ray.errors import UserError
from pfit_ray.nets.networks import load_network
from pfit_ray.nets.weights import load_state
from pfit_ray.train import fit
from pfit_ray.train.curves import read_metrics
from pfit_ray.train.fit import train_network

pytestmark = pytest.mark.filterwarnings("ignore:::ray.data.context")


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_state(path)[0]


def train(name, config, corpus: Path, folder: Path) -> dict:
    table, output, work = corpus / "examples.parquet", folder / f"{name}.safetensors", folder / name
    return train_network(name, config, str(table), str(output), str(work))


def test_training_and_again(make_config, corpus, tmp_path, local_ray) -> None:
    config = make_config()
    metrics = train("deeplab", config, corpus, tmp_path)
    assert (metrics["epochs"], metrics["steps"], metrics["skipped_images"]) == (3, 3, 0)
    records = read_metrics(str(tmp_path / "deeplab"))
    assert [record["step"] for record in records] == [1, 2, 3]
    assert metrics["loss"] == records[-1]["loss"]
    assert len(list((tmp_path / "deeplab" / "checkpoints").glob("checkpoint_2*"))) == 2
    assert list((tmp_path / "deeplab" / "tensorboard").iterdir())
    with safe_open(tmp_path / "deeplab.safetensors", "pt") as file:
        told = file.metadata()
    assert told["network"] == "DeepLabV3Plus"
    assert told["backbone"] == "tf_efficientnet_lite0"
    assert told["classes"] == '["one", "two"]'
    network = load_network(str(tmp_path / "deeplab.safetensors"))
    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 3, 32, 32)

    first = (tmp_path / "deeplab.safetensors").read_bytes()
    (tmp_path / "deeplab.safetensors").unlink()
    assert train("deeplab", config, corpus, tmp_path) == metrics
    assert (tmp_path / "deeplab.safetensors").read_bytes() == first


def test_two_workers_learn_what_one_learns(make_config, make_trainer, corpus, tmp_path, local_ray) -> None:
    metrics = train("affinitynet", make_config(workers=2, epochs=2, checkpoint_seconds=999.0), corpus, tmp_path)
    assert len(list((tmp_path / "affinitynet" / "checkpoints").glob("checkpoint_2*"))) == 1
    two = weights(tmp_path / "affinitynet.safetensors")
    trainer = make_trainer("affinitynet", make_config(epochs=2))
    records: list[dict] = []
    for _ in range(2):
        trainer.run_epoch(records.append)
    for name, value in trainer.objective.network.state_dict().items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-4)
    assert metrics["loss"] == pytest.approx(records[-1]["loss"], rel=1e-4)


@pytest.mark.slow
def test_divergence_is_told_at_once(make_config, corpus, tmp_path, local_ray) -> None:
    with pytest.raises(
        UserError, match=r"training of deeplab: the (loss became|weights are no longer finite) .* lower"
    ):
        train("deeplab", make_config(learning_rate=1e30), corpus, tmp_path)
    assert not (tmp_path / "deeplab.safetensors").exists()


@pytest.mark.slow
def test_workers_agree_on_a_mistake(make_config, corpus, tmp_path, local_ray) -> None:
    config = make_config(workers=2)
    backbone = config.deeplab.backbone.model_copy(update={"weights": str(tmp_path / "none.safetensors")})
    section = config.deeplab.model_copy(update={"backbone": backbone})
    with pytest.raises(UserError, match=r"deeplab\.backbone\.weights"):
        train("deeplab", config.model_copy(update={"deeplab": section}), corpus, tmp_path)


@pytest.mark.slow
def test_images_that_nobody_can_read(make_config, corpus, tmp_path, local_ray) -> None:
    damaged = tmp_path / "corpus"
    damaged.mkdir()
    table = pq.read_table(corpus / "examples.parquet")
    nowhere = pa.array(["/nowhere.tar"] * len(table))
    table = table.set_column(table.column_names.index("label_url"), "label_url", nowhere)
    pq.write_table(table, damaged / "examples.parquet")
    with pytest.raises(UserError, match="5 images one after another"):
        train("deeplab", make_config(), damaged, tmp_path)


@pytest.mark.slow
def test_killed_worker_is_replaced_and_nothing_changes(make_config, corpus, tmp_path, local_ray, monkeypatch) -> None:
    """Its checkpoints go through an fsspec driver, those of the undisturbed training do not."""
    config = make_config(epochs=20, batch_size=1)
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    train("affinitynet", config, corpus, undisturbed)
    killed = []

    def kill_after_some_epochs() -> None:
        work = disturbed / "affinitynet"
        while not (work / "metrics.jsonl").exists() or len(read_metrics(str(work))) < 4:
            time.sleep(0.05)
        (events,) = (work / "tensorboard").iterdir()
        killed.append(int(events.name.split(".")[-2]))
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_after_some_epochs, daemon=True)
    monkeypatch.setattr(fit.storage, "is_local", lambda url: False)
    killer.start()
    metrics = train("affinitynet", config, corpus, disturbed)
    assert killed
    assert len(list((disturbed / "affinitynet" / "tensorboard").iterdir())) == 2
    assert (metrics["epochs"], metrics["steps"]) == (20, 100)
    for folder in (undisturbed, disturbed):
        assert len(list((folder / "affinitynet" / "checkpoints").glob("checkpoint_2*"))) == 2
    one, other = (weights(folder / "affinitynet.safetensors") for folder in (undisturbed, disturbed))
    assert all(torch.equal(one[name], other[name]) for name in one | other)
    losses = [[r["loss"] for r in read_metrics(str(f / "affinitynet"))] for f in (undisturbed, disturbed)]
    assert losses[0] == losses[1]
