import cv2
import numpy as np
import pytest

from pfit_ray.ops.reference_perimeter import (
    canny_edges,
    canny_perimeter,
    colour_table,
    jpeg_round_trip,
    region_picture,
)


def test_colour_table():
    table = colour_table()
    assert table.shape == (256, 3)
    assert table.max() == 254
    assert not np.array_equal(table, colour_table(seed=44))


def test_region_picture_paints_ranks():
    table = colour_table()
    labels = np.array([[0, 1], [1, 17]], dtype=np.uint8)
    np.testing.assert_array_equal(region_picture(labels), [[table[0], table[1]], [table[1], table[17]]])


def test_jpeg_round_trip_equals_a_written_file(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (21, 33, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "image.jpg"), image)
    np.testing.assert_array_equal(jpeg_round_trip(image), cv2.imread(str(tmp_path / "image.jpg")))


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 1), (1, 5), (5, 1, 3), (17, 9)])
def test_jpeg_round_trip_keeps_the_shape(shape):
    image = np.full(shape, 77, dtype=np.uint8)
    decoded = jpeg_round_trip(image)
    assert decoded.dtype == np.uint8
    np.testing.assert_allclose(decoded, image, atol=1)


def test_jpeg_round_trip_names_an_impossible_size():
    with pytest.raises(ValueError, match=r"\(1, 70000\) cannot be stored as JPEG"):
        jpeg_round_trip(np.zeros((1, 70000), dtype=np.uint8))


def test_canny_edges_lie_on_the_border():
    picture = np.zeros((9, 12, 3), dtype=np.uint8)
    picture[:, 6:] = 200
    edges = canny_edges(picture)
    assert set(np.unique(edges)) == {0, 255}
    assert set(np.flatnonzero(edges.any(axis=0))) <= {5, 6}
    assert not canny_edges(picture, low=1000, high=2000).any()


def test_canny_perimeter_of_one_pixel():
    np.testing.assert_array_equal(canny_perimeter(np.full((1, 1, 3), 9, dtype=np.uint8)), [[0]])


def test_colour_table_as_published(golden):
    np.testing.assert_array_equal(colour_table(), np.load(golden / "uss_color_table_bgr_256x3.npy"))


@pytest.mark.parametrize("source", ["slic", "quick"])
def test_as_published(golden, source):
    for path in sorted((golden / f"01_uss_{source}").glob("*.npz")):
        regions = np.load(path)
        published = np.load(golden / f"02_edges_{source}" / path.name)
        picture = region_picture(regions["label_rank"].astype(np.uint8))
        np.testing.assert_array_equal(picture, regions["final_bgr"])
        decoded = jpeg_round_trip(picture)
        rgb = np.load(golden / f"01_uss_{source}" / f"{path.stem}_decoded_rgb.npy")
        np.testing.assert_array_equal(decoded[..., ::-1], rgb)
        np.testing.assert_array_equal(canny_edges(decoded), published["canny"])
        np.testing.assert_array_equal(canny_perimeter(decoded), published["decoded_jpeg"])
