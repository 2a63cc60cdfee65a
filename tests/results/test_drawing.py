import io

import cv2
import numpy as np
import pytest
from PIL import Image

from pfit_ray.results import drawing
from pfit_ray.results.drawing import Tile, compose_sheet, heat_overlay, label_overlay, mask_overlay, region_picture

PALE = np.full((2, 3, 3), 200, dtype=np.uint8)
RED = np.full((2, 3, 3), (200, 0, 0), dtype=np.uint8)
GREY_OF_RED = 60  # the luminance of (200, 0, 0)


def opened(png: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(png)))


def turbo(level: int) -> np.ndarray:
    return cv2.applyColorMap(np.array([[level]], np.uint8), cv2.COLORMAP_TURBO)[0, 0, ::-1]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_heat_is_resized_and_clipped(dtype: type) -> None:
    picture = heat_overlay(np.zeros((2, 4, 3), dtype=np.uint8), np.array([[-1.0, 2.0]], dtype=dtype))
    assert (picture.shape, picture.dtype) == ((2, 4, 3), np.uint8)
    np.testing.assert_array_equal(picture[0, 0], np.round(turbo(0) * 0.6))
    np.testing.assert_array_equal(picture[1, 3], np.round(turbo(255) * 0.6))


def test_heat_lies_over_the_grey_photograph() -> None:
    picture = heat_overlay(RED, np.zeros((1, 1)))
    np.testing.assert_array_equal(picture[0, 0], np.round(GREY_OF_RED * 0.4 + turbo(0) * 0.6))


def test_labels_have_the_voc_colours_and_white_borders() -> None:
    label = np.array([[0, 0, 0, 0], [1, 1, 1, 255]], dtype=np.uint8)
    photo = np.full((2, 4, 3), (200, 0, 0), dtype=np.uint8)
    picture = label_overlay(photo, label)
    assert picture[0].tolist() == [[255, 255, 255]] * 4  # the border lies on its upper side
    assert picture[1, 0].tolist() == [round(GREY_OF_RED * 0.35 + 128 * 0.65), 21, 21]
    assert picture[1, 2].tolist() == [255, 255, 255]
    assert picture[1, 3].tolist() == [round(GREY_OF_RED * 0.35 + value * 0.65) for value in drawing.UNSURE]


def test_background_shows_the_photograph() -> None:
    np.testing.assert_array_equal(label_overlay(RED, np.zeros((2, 3), dtype=np.uint8)), RED)


def test_regions_differ_in_colour() -> None:
    picture = region_picture(np.arange(32, dtype=np.uint8).reshape(4, 8))
    assert (picture.shape, picture.dtype) == ((4, 8, 3), np.uint8)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 32


def test_outside_of_all_masks_the_photograph_is_dimmed() -> None:
    masks = np.array([[[True, False, False]] * 2, [[False, True, False]] * 2])
    picture = mask_overlay(PALE, masks)
    assert picture[0].tolist() == [[200] * 3, [200] * 3, [60] * 3]
    assert (mask_overlay(PALE, np.zeros((0, 2, 3), dtype=bool)) == 60).all()


def test_a_sheet_has_room_for_every_tile() -> None:
    tiles = [Tile(f"tile {number}", np.full((50, 100, 3), number, np.uint8)) for number in range(1, 6)]
    sheet = opened(compose_sheet("title", [("cat", (64, 0, 0))], tiles, columns=4))
    assert sheet.dtype == np.uint8
    assert sheet.shape == (70 + 2 * (50 + drawing.CAPTION + drawing.GAP), 640 + drawing.GAP, 3)
    for number in range(1, 6):
        assert (sheet == number).all(axis=2).sum() >= 100 * 50
    assert (sheet == (64, 0, 0)).all(axis=2).any()
    left = drawing.GAP + (100 + drawing.GAP)  # the second tile
    assert (sheet[70 + drawing.CAPTION :][:50, left : left + 100] == 2).all()


@pytest.mark.parametrize(
    ("shape", "shown"),
    [((1, 1), (1, 1)), ((600, 1200), (150, 300)), ((1, 3000), (1, 300)), ((900, 300), (300, 100))],
)
def test_large_pictures_are_shrunk(shape: tuple[int, int], shown: tuple[int, int]) -> None:
    blue = np.full((*shape, 3), (0, 0, 200), dtype=np.uint8)
    sheet = opened(compose_sheet("", [], [Tile("one", blue)]))
    assert sheet.shape[0] == 70 + shown[0] + drawing.CAPTION + drawing.GAP
    assert (sheet == (0, 0, 200)).all(axis=2).sum() == shown[0] * shown[1]


def test_equal_tiles_give_equal_bytes() -> None:
    tiles = [Tile("one", RED), Tile("ä", PALE)]
    assert compose_sheet("title", [], tiles) == compose_sheet("title", [], tiles)
