import io
from collections import defaultdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.sentences import facts
from support.shards import fixed

from pfit_ray import storage
from pfit_ray.config import RunConfig
from pfit_ray.config.load import validate
from pfit_ray.data.images import decode_mask, encode_label
from pfit_ray.data.label_shards import pack_shard
from pfit_ray.data.sources.item import Item
from pfit_ray.errors import UserError
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.rundir.manifest import write_manifest
from pfit_ray.rundir.published import read_label
from pfit_ray.rundir.review import Marked, read_marks, run_marks, write_marks
from pfit_ray.storage import ranges
from pfit_ray.train.tables import write_examples

COLUMNS = [
    *("image_id", "uri", "offset", "length", "row", "column", "name", "name_column", "keys"),
    *("label_url", "label_offset", "label_size"),
]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(str(tmp_path / "run"))


def config(**fields: Any) -> RunConfig:
    return validate({"output": "run", "data": {"source": "samples"}, **fields})


def table(url: str) -> pd.DataFrame:
    found = pd.read_parquet(url)
    assert list(found.columns) == COLUMNS
    return found


def finish_shard(run: RunDirectory, pass_name: str, shard: int, agreement: dict[str, float]) -> None:
    """A finished shard; the label of image "iN" is N everywhere."""
    tar, places = pack_shard((name, encode_label(np.full((1, 1), int(name[1:]), np.uint8))) for name in agreement)
    rows = [
        {"image_id": name, "uri": f"u/{name}", "keys": [int(name[1:])], "mask_agreement": score,
         "label_offset": places[name][0], "label_size": places[name][1]}
        for name, score in agreement.items()
    ]  # fmt: skip
    storage.write_bytes(fixed(run, pass_name, "labels", shard), tar)
    storage.write_bytes(fixed(run, pass_name, "rows", shard), pd.DataFrame(rows).to_parquet())
    run.write_json({"ok": len(rows), "failed": 0}, pass_name, "done", f"{shard:05d}.json")
    list_finished(run)


def list_finished(run: RunDirectory) -> None:
    """The manifest of what is finished: shards of 12 images, "iN" of which is a member of a tar file, at byte N."""
    ids: defaultdict[int, dict[str, None]] = defaultdict(dict)
    for pass_name in ("seeds", "labels"):
        for shard in run.finished_shards(pass_name):
            ids[shard].update(dict.fromkeys(pd.read_parquet(fixed(run, pass_name, "rows", shard))["image_id"]))
    items = []
    for shard in range(max(ids) + 1):
        items += [Item(name, "u/x.tar", offset=int(name[1:]), length=9) for name in ids[shard]]
        items += [Item(f"other{shard}-{number}", "u/other.jpg") for number in range(12 - len(ids[shard]))]
    write_manifest(run, "train", iter(items), shard_size=12)


ITEMS = [
    Item("a", "u/a", keys=(1, 2)),
    Item("b", "u/b", keys=()),
    Item("c", "u/c"),
    Item("d", "u/d", keys=(1,), reason="unknown_class", message="no class 'dog'"),
    Item("e", "u/e", keys=(3,)),
]


def test_the_classifier_learns_from_images_with_a_label(run: RunDirectory) -> None:
    write_manifest(run, "train", iter(ITEMS), shard_size=2)
    url = write_examples(run, config(), "classifier")
    assert url == run.url("train", "classifier", "examples.parquet")
    found = table(url)
    assert found["image_id"].tolist() == ["a", "e"]
    assert found["keys"].map(list).tolist() == [[1, 2], [3]]
    assert found["label_url"].isna().all()


def test_the_classifier_can_have_its_own_images(run: RunDirectory) -> None:
    write_manifest(run, "train", iter(ITEMS), shard_size=2)
    write_manifest(run, "classifier", iter(ITEMS[4:]), shard_size=2)
    own = config(data={"source": "samples", "classifier": {"limit": 1}})
    assert table(write_examples(run, own, "classifier"))["image_id"].tolist() == ["e"]
    one = config(classifier={"train": {"sample": 1}})
    assert len(table(write_examples(run, one, "classifier"))) == 1


@pytest.mark.parametrize(("network", "pass_name"), [("affinitynet", "seeds"), ("deeplab", "labels")])
def test_label_maps_of_finished_shards(run: RunDirectory, network: Any, pass_name: str) -> None:
    finish_shard(run, pass_name, 0, {"i1": 0.2, "i2": 0.9})
    finish_shard(run, pass_name, 2, {"i3": 0.5})
    found = table(write_examples(run, config(), network))
    assert found["image_id"].tolist() == ["i1", "i2", "i3"]
    assert found["label_url"].tolist() == [fixed(run, pass_name, "labels", shard) for shard in (0, 0, 2)]
    assert found["uri"].tolist() == ["u/x.tar"] * 3
    assert found["offset"].tolist() == [1, 2, 3]
    assert found["length"].tolist() == [9, 9, 9]
    assert found["row"].isna().all()
    for number, row in enumerate(found.to_dict("records"), start=1):
        label = decode_mask(read_label(row))
        assert label.tolist() == [[number]]


@pytest.mark.parametrize(("network", "pass_name"), [("affinitynet", "seeds"), ("deeplab", "labels")])
def test_images_whose_masks_disagree_can_be_left_out(run: RunDirectory, network: Any, pass_name: str) -> None:
    for name in {"seeds", pass_name}:
        finish_shard(run, name, 0, {"i1": 0.25, "i2": 0.5})
        finish_shard(run, name, 1, {"i3": 0.75})
    strict = config(**{network: {"train": {"min_score": 0.5}}})
    assert table(write_examples(run, strict, network))["image_id"].tolist() == ["i2", "i3"]
    strictest = config(**{network: {"train": {"min_score": 0.9}}})
    with pytest.raises(UserError, match=f"{network} cannot be trained: no image has a label from pass {pass_name}"):
        write_examples(run, strictest, network)


def test_the_worst_share_can_be_left_out(run: RunDirectory) -> None:
    agreement = {f"i{number}": number / 16 for number in (5, 2, 9, 2, 7, 3, 8, 1, 4, 6)}
    finish_shard(run, "seeds", 0, dict(list(agreement.items())[:4]))
    finish_shard(run, "seeds", 1, dict(list(agreement.items())[4:]))
    for share, dropped in (
        (0.0, set()),
        (0.1, set()),
        (0.12, {"i1"}),
        (0.34, {"i1", "i2", "i3"}),
        (0.9, {*agreement} - {"i9"}),
    ):
        chosen = config(affinitynet={"train": {"drop_worst": share}})
        found = table(write_examples(run, chosen, "affinitynet"))["image_id"]
        assert set(found) == set(agreement) - dropped
    both = config(affinitynet={"train": {"drop_worst": 0.12, "min_score": 0.5}})
    assert sorted(table(write_examples(run, both, "affinitynet"))["image_id"]) == ["i8", "i9"]


def test_equal_scores_stay_together(run: RunDirectory) -> None:
    finish_shard(run, "seeds", 0, {"i1": 0.5, "i2": 0.5, "i3": 0.5, "i4": 0.75})
    half = config(affinitynet={"train": {"drop_worst": 0.5}})
    assert len(table(write_examples(run, half, "affinitynet"))) == 4


@pytest.mark.parametrize("score", ["mask_agreement", "cam_margin", "walk_margin", "foreground_share"])
def test_the_score_can_be_chosen(run: RunDirectory, score: str) -> None:
    finish_shard(run, "labels", 0, {"i1": 0.5, "i2": 0.5, "i3": 0.5})
    finish_shard(run, "seeds", 0, {"i1": 0.5, "i2": 0.5, "i3": 0.5, "i4": 0.0})
    own = "labels" if score in ("walk_margin", "foreground_share") else "seeds"
    names = ["i1", "i2", "i3", "i4"][: 3 if own == "labels" else 4]
    rows = pd.read_parquet(fixed(run, own, "rows", 0)).assign(
        **{score: [0.25 if name == "i2" else 0.75 for name in names]}
    )
    storage.write_bytes(fixed(run, own, "rows", 0), rows.to_parquet())
    for choice in ({"min_score": 0.5}, {"drop_worst": 0.34}):
        chosen = config(deeplab={"train": {"score": score, **choice}})
        assert table(write_examples(run, chosen, "deeplab"))["image_id"].tolist() == ["i1", "i3"]


REVIEWS = {
    "not_rejected": ["i1", "i3", "i4"],
    "no_complaints": ["i1", "i4"],
    "accepted": ["i1"],
    None: ["i1", "i2", "i3", "i4"],
}


@pytest.mark.parametrize(("review", "left"), REVIEWS.items())
@pytest.mark.parametrize(("network", "pass_name"), [("affinitynet", "seeds"), ("deeplab", "labels")])
def test_marks_decide(run: RunDirectory, network: Any, pass_name: str, review: str | None, left: list[str]) -> None:
    for name in {"seeds", pass_name}:
        finish_shard(run, name, 0, {"i1": 0.5, "i2": 0.5})
        finish_shard(run, name, 1, {"i3": 0.5, "i4": 0.5})
    mark(run, i1="accept", i2="reject", i3="needs_work", another="accept")
    chosen = config(**{network: {"train": {"review": review}}})
    assert table(write_examples(run, chosen, network))["image_id"].tolist() == left
    used = run.url("train", network, "marks.parquet")
    assert storage.exists(used) is (review is not None)
    if review is not None:  # what is written is what was used, whatever people do meanwhile
        assert read_marks(used) == run_marks(run)
        mark(run, i1="reject", i2="accept")
        assert table(write_examples(run, chosen, network))["image_id"].tolist() == left


def test_marks_decide_for_the_classifier_too(run: RunDirectory) -> None:
    write_manifest(run, "train", iter(ITEMS), shard_size=2)
    mark(run, e="reject")
    chosen = config(classifier={"train": {"review": "not_rejected"}})
    assert table(write_examples(run, chosen, "classifier"))["image_id"].tolist() == ["a"]


def test_marks_that_are_not_there_or_leave_nothing(run: RunDirectory) -> None:
    finish_shard(run, "seeds", 0, {"i1": 0.5, "i2": 0.5})
    chosen = config(affinitynet={"train": {"review": "accepted"}})
    with pytest.raises(UserError, match=r"affinitynet.train.review is 'accepted', .* has no marks; mark images"):
        write_examples(run, chosen, "affinitynet")
    mark(run, i1="reject")
    with pytest.raises(UserError) as caught:
        write_examples(run, chosen, "affinitynet")
    assert str(caught.value).startswith("affinitynet cannot be trained: no image ")
    assert facts(caught.value) == ["affinitynet.train.review"]
    assert not storage.exists(run.url("train"))


def mark(run: RunDirectory, **marks: Any) -> None:
    write_marks(
        run.url("review", "marks.parquet"),
        {name: Marked(one, datetime(2026, 3, 1, tzinfo=UTC)) for name, one in marks.items()},
    )


def test_a_sample_of_what_is_left(run: RunDirectory) -> None:
    finish_shard(run, "seeds", 0, {"i1": 0.2, "i2": 0.9})
    finish_shard(run, "seeds", 1, {"i3": 0.5, "i4": 0.7, "i5": 0.1})
    mark(run, i4="reject")
    best = {"sample": 2, "sample_by": "score", "review": "not_rejected"}
    found = table(write_examples(run, config(affinitynet={"train": best}), "affinitynet"))
    assert found["image_id"].tolist() == ["i2", "i3"]
    half = config(affinitynet={"train": {"sample": 0.4}})
    assert len(table(write_examples(run, half, "affinitynet"))) == 2


def test_large_columns_of_the_passes_are_not_read(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    finish_shard(run, "seeds", 0, {f"i{number}": 0.5 for number in range(10)})
    cam = np.random.default_rng(0).bytes(100_000)
    rows = pd.read_parquet(fixed(run, "seeds", "rows", 0)).assign(cam=[cam] * 10)
    rows.to_parquet(fixed(run, "seeds", "rows", 0), compression=None)
    remote = RunDirectory(f"memory://{Path(run.root).parent.name}")
    for url, _ in storage.list_files(run.root):
        storage.write_bytes(url.replace(run.root, remote.root), storage.read_bytes(url))
    read = []

    def noted(url: str, start: int, end: int) -> bytes:
        read.append(end - start)
        return storage.read_bytes(url, start, end)

    opened = partial(ranges.open_seekable, read=noted)
    monkeypatch.setattr(ranges, "open_seekable", opened)
    assert len(pd.read_parquet(storage_file(write_examples(remote, config(), "affinitynet")))) == 10
    assert 0 < sum(read) < 300_000  # of more than 1 MB


def storage_file(url: str) -> io.BytesIO:
    return io.BytesIO(storage.read_bytes(url))


def test_nothing_to_learn_from(run: RunDirectory) -> None:
    write_manifest(run, "train", iter(ITEMS[1:4]), shard_size=2)
    with pytest.raises(UserError) as caught:
        write_examples(run, config(), "classifier")
    assert str(caught.value).startswith("classifier cannot be trained: no image has an image-level label")
    with pytest.raises(UserError, match="deeplab cannot be trained: no image has a label from pass labels"):
        write_examples(run, config(), "deeplab")


def test_equal_runs_give_equal_bytes(run: RunDirectory) -> None:
    finish_shard(run, "seeds", 0, {"i1": 0.2})
    first = Path(write_examples(run, config(), "affinitynet")).read_bytes()
    assert Path(write_examples(run, config(), "affinitynet")).read_bytes() == first
