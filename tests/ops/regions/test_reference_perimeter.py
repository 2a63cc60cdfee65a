import cv2
import numpy as np
import pytest
from support.golden import array, cases, item, load

from pfit_ray.ops.regions.reference_perimeter import (
    canny_edges,
    canny_perimeter,
    colour_table,
    encode_jpeg,
    jpeg_round_trip,
    region_picture,
    smooth_grey,
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


@pytest.mark.parametrize("file", cases("uss_color_table_bgr_256x3.npy"))
def test_colour_table_as_published(file):
    np.testing.assert_array_equal(colour_table(), load(file))


@pytest.mark.parametrize("file", cases("01_uss_slic/*.npz", "01_uss_quick/*.npz"))
def test_region_picture_and_its_file_as_published(file):
    regions = load(file)
    picture = region_picture(regions["label_rank"].astype(np.uint8))
    np.testing.assert_array_equal(picture, regions["final_bgr"])
    folder = file.parent.name
    np.testing.assert_array_equal(picture, cv2.imread(str(item(f"{folder}/{file.stem}_prejpeg.png"))))
    assert encode_jpeg(picture).tobytes() == item(f"{folder}/{file.stem}.jpg").read_bytes()
    decoded = array(f"{folder}/{file.stem}_decoded_rgb.npy")
    np.testing.assert_array_equal(jpeg_round_trip(picture)[..., ::-1], decoded)


@pytest.mark.parametrize("file", cases("02_edges_slic/*.npz", "02_edges_quick/*.npz"))
def test_perimeter_as_published(file):
    published = load(file)
    source = file.parent.name.removeprefix("02_edges_")
    picture = jpeg_round_trip(array(f"01_uss_{source}/{file.name}")["final_bgr"])
    np.testing.assert_array_equal(smooth_grey(picture, blur=1), published["gray"])
    np.testing.assert_array_equal(smooth_grey(picture), published["blurred"])
    np.testing.assert_array_equal(canny_edges(picture), published["canny"])
    np.testing.assert_array_equal(canny_perimeter(picture), published["decoded_jpeg"])
