import json

import numpy as np
import pytest
import torch
from support.golden import cases, item, load

from pfit_ray.nets.puzzle import merge, puzzle_alpha, puzzle_loss, tile


def test_tiles_come_tile_by_tile():
    image = torch.tensor([[1, 2], [3, 4]])
    images = torch.stack([image, 10 * image])[:, None]
    assert tile(images).flatten().tolist() == [1, 10, 2, 20, 3, 30, 4, 40]


def test_merge_undoes_tile():
    images = torch.arange(2 * 3 * 6 * 12).reshape(2, 3, 6, 12)
    for pieces in (1, 4, 9):
        tiles = tile(images, pieces)
        assert len(tiles) == 2 * pieces
        assert torch.equal(merge(tiles, pieces), images)


def test_merge_places_tiles_in_reading_order():
    tiles = torch.tensor([1, 2, 3, 4]).reshape(4, 1, 1, 1)
    assert merge(tiles).tolist() == [[[[1, 2], [3, 4]]]]


def test_wrong_sizes():
    with pytest.raises(ValueError, match=r"square number .*, not 3"):
        tile(torch.zeros(1, 1, 6, 6), 3)
    with pytest.raises(ValueError, match="5 x 6 pixels do not divide into 2 x 2"):
        tile(torch.zeros(1, 1, 5, 6))
    with pytest.raises(ValueError, match="batch of 6 tiles does not hold 4 tiles per image"):
        merge(torch.zeros(6, 1, 2, 2))
    with pytest.raises(ValueError, match="multiple of the output stride"):
        puzzle_loss(torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 4, 4), torch.zeros(1, 2), 4.0)


def test_alpha_ramps_over_the_first_half():
    assert [puzzle_alpha(step, 8) for step in range(9)] == [0, 1, 2, 3, 4, 4, 4, 4, 4]
    assert puzzle_alpha(0, 8, alpha=2.0, schedule=0.0) == 2.0


def test_distance_counts_present_classes_but_averages_over_all():
    maps = torch.tensor([[[[1.0]], [[5.0]]]])
    merged = torch.tensor([[[[4.0]], [[0.0]]]])
    loss = puzzle_loss(maps, merged, torch.tensor([[1.0, 0.0]]), alpha=2.0)
    assert loss.reconstruction.item() == 1.5
    soft_margin = (np.log1p(np.exp(-1)) + np.log1p(np.exp(5))) / 2
    assert loss.classification.item() == pytest.approx(soft_margin)
    parts = loss.classification + loss.reclassification + 2.0 * loss.reconstruction
    torch.testing.assert_close(loss.total, parts)


@pytest.mark.parametrize("file", cases("11_training_units/puzzle_*.npz"))
def test_losses_as_published(file):
    data = load(file)
    expected = json.loads(item("11_training_units/values.json").read_text())[file.stem]
    maps, merged, targets = (torch.from_numpy(data[key]) for key in ("features", "re_features", "y"))
    torch.testing.assert_close(maps.mean((2, 3)), torch.from_numpy(data["logits"]))
    loss = puzzle_loss(maps, merged, targets, alpha=4.0)
    assert loss.classification.item() == pytest.approx(expected["class_loss"], rel=1e-5)
    assert loss.reclassification.item() == pytest.approx(expected["p_class_loss"], rel=1e-5)
    assert loss.reconstruction.item() == pytest.approx(expected["re_loss"], rel=1e-5)
    assert loss.total.item() == pytest.approx(expected["total_alpha4"], rel=1e-5)
