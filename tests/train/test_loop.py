from typing import Any

import pytest
import torch
from support.sentences import facts

from pfit_ray.config import RunConfig
from pfit_ray.config.training import DeepLabConfig
from pfit_ray.train import loop
from pfit_ray.train.loop import StopTrainingError, Trainer, derived_seed


def run(trainer: Trainer, epochs: int) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    for _ in range(epochs):
        trainer.run_epoch(records.append)
    return records


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one | other)


def frozen(config: RunConfig) -> DeepLabConfig:
    return config.deeplab.model_copy(update={"freeze_backbone": True})


@pytest.mark.parametrize("name", ["classifier", "affinitynet", "deeplab"])
def test_continued_training_ends_like_an_undisturbed_one(name, make_config, make_trainer, tmp_path) -> None:
    config = make_config(batch_size=2)
    undisturbed = make_trainer(name, config)
    all_records = run(undisturbed, 3)
    killed = make_trainer(name, config, threads=2)
    run(killed, 1)
    torch.save(killed.state(), tmp_path / "state.pt")
    torch.rand(7)  # whatever happened to the global generator before the restart
    continued = make_trainer(name, config)
    continued.load_state(torch.load(tmp_path / "state.pt", weights_only=True))
    records = run(continued, 2)
    assert same(continued.objective.network.state_dict(), undisturbed.objective.network.state_dict())
    assert [record["loss"] for record in records] == [record["loss"] for record in all_records[1:]]


def test_training_changes_what_it_should(make_config, make_trainer) -> None:
    trainer = make_trainer("affinitynet", make_config())
    before = {name: value.clone() for name, value in trainer.objective.network.state_dict().items()}
    run(trainer, 1)
    changed = {
        name for name, value in trainer.objective.network.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed
    assert not [name for name in changed if name.startswith("backbone.")]


def test_of_a_frozen_backbone_only_the_head_learns(make_config, make_trainer) -> None:
    config = make_config(epochs=1)
    trainer = make_trainer("deeplab", config.model_copy(update={"deeplab": frozen(config)}))
    before = {name: value.clone() for name, value in trainer.objective.network.state_dict().items()}
    run(trainer, 1)
    after = trainer.objective.network.state_dict()
    changed = {name.partition(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {"aspp", "decoder"}


@pytest.mark.parametrize("name", ["affinitynet", "deeplab"])
def test_kept_features_change_nothing(name, make_config, make_trainer) -> None:
    """Nor does a restart, after which they are computed anew, in other batches."""
    ends = []
    for features_mb in (64, 0):
        config = make_config(epochs=3, views=1, features_mb=features_mb)
        config = config.model_copy(update={"deeplab": frozen(config)})
        trainer = make_trainer(name, config)
        run(trainer, 2)
        state = trainer.state()
        assert (4 <= len(trainer.features.known) <= 5) if features_mb else not trainer.features.known
        if not features_mb:
            trainer = make_trainer(name, config)
            trainer.load_state(state)
        run(trainer, 1)
        ends.append(trainer.objective.network.state_dict())
    assert same(*ends)


def test_views_come_again(make_config, make_trainer) -> None:
    drawn = make_trainer("deeplab", make_config(views=2)).examples
    always_new = make_trainer("deeplab", make_config()).examples
    images = [drawn.item(0, epoch).image.tobytes() for epoch in range(4)]
    assert images[:2] == images[2:]
    assert images == [always_new.item(0, epoch).image.tobytes() for epoch in (0, 1, 0, 1)]
    assert len({always_new.item(0, epoch).image.tobytes() for epoch in range(4)}) == 4


def test_loss_goes_down(make_config, make_trainer) -> None:
    records = run(make_trainer("deeplab", make_config(epochs=10, learning_rate=0.01)), 10)
    assert records[-1]["loss"] < 0.8 * records[0]["loss"]


@pytest.mark.parametrize("name", ["affinitynet", "deeplab"])
def test_accumulated_pieces_equal_the_whole_batch(name, make_config, make_trainer) -> None:
    ends = []
    for accumulate in (1, 3):
        trainer = make_trainer(name, make_config(accumulate=accumulate, epochs=2))
        for module in trainer.objective.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        records = run(trainer, 2)
        ends.append((trainer.objective.network.state_dict(), records))
    (whole, whole_records), (pieces, piece_records) = ends
    for name_, value in whole.items():
        torch.testing.assert_close(pieces[name_], value, rtol=1e-3, atol=1e-4)
    for one, other in zip(whole_records, piece_records, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)


def test_records(make_config, make_trainer, monkeypatch) -> None:
    monkeypatch.setattr(loop, "LOG_STEPS", 2)
    trainer = make_trainer("classifier", make_config(batch_size=1, epochs=2, poly_power=1.0))
    records = run(trainer, 2)
    assert [(record["epoch"], record["step"], record["images"]) for record in records] == [
        (1, 2, 2), (1, 4, 2), (1, 5, 1), (2, 7, 2), (2, 9, 2), (2, 10, 1),
    ]  # fmt: skip
    assert [record["learning_rate"] for record in records] == pytest.approx([0.009, 0.007, 0.006, 0.004, 0.002, 0.001])
    for record in records:
        assert 0 <= record["data_wait"] <= 1
        assert record["images_per_second"] == pytest.approx(record["images"] / record["seconds"])
    last = records[2]  # one step, so that its parts have one weight
    ramp = 4.0 * 4 / 5
    assert last["loss"] == pytest.approx(
        last["classification"] + last["reclassification"] + ramp * last["reconstruction"]
    )
    assert [record.get("skipped") for record in records] == [None, None, {}, None, None, {}]


def test_skipped_images_are_told(make_config, make_trainer) -> None:
    trainer = make_trainer("classifier", make_config(batch_size=5))
    table = trainer.examples.table
    uris = table["uri"].to_pylist()
    uris[1] = "/nowhere/i1.png"
    trainer.examples.table = table.set_column(table.column_names.index("uri"), "uri", [uris])
    (record,) = run(trainer, 1)
    assert record["skipped"] == {"i1": "/nowhere/i1.png does not exist"}


def test_loss_that_is_not_finite_stops_the_training(make_config, make_trainer) -> None:
    trainer = make_trainer("affinitynet", make_config(batch_size=2, precision="bfloat16"))
    run(trainer, 1)
    with torch.no_grad():
        trainer.objective.network.edge_fusion.bias.fill_(float("nan"))
    with pytest.raises(StopTrainingError) as error:
        run(trainer, 1)
    told = ["2", "3", "affinitynet.train.learning_rate", "0.01", "affinitynet.train.precision"]
    assert facts(error.value) == told


def test_weights_that_are_not_finite_stop_the_training(make_config, make_trainer) -> None:
    trainer = make_trainer("classifier", make_config(batch_size=4))
    with torch.no_grad():
        trainer.objective.network.backbone.bn1.running_mean.fill_(float("inf"))
    with pytest.raises(StopTrainingError, match="the weights are no longer finite after epoch 1; lower classifier"):
        run(trainer, 1)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision(precision, make_config, make_trainer) -> None:
    exact = run(make_trainer("affinitynet", make_config()), 1)
    trainer = make_trainer("affinitynet", make_config(precision=precision))
    records = run(trainer, 1)
    assert records[0]["loss"] == pytest.approx(exact[0]["loss"], rel=0.05)
    assert {tensor.dtype for tensor in trainer.objective.network.parameters()} == {torch.float32}
    assert bool(trainer.state()["scaler"]) == (precision == "float16")


def test_state_of_another_training_is_refused(make_config, make_trainer) -> None:
    state = make_trainer("affinitynet", make_config()).state()
    with pytest.raises(StopTrainingError, match="of 3 steps and this one has 4"):
        make_trainer("affinitynet", make_config(epochs=4)).load_state(state)


def test_derived_seeds_differ() -> None:
    seeds = [derived_seed(0, 0, 0), derived_seed(0, 0, 1), derived_seed(0, 1, 0), derived_seed(1, 0, 0)]
    assert len(set(seeds)) == 4
    assert derived_seed(0, 0, 0) == seeds[0]
