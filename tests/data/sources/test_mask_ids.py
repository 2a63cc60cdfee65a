import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pfit_ray.config.data import DataConfig
from pfit_ray.constants import VOC_CLASSES, voc_palette
from pfit_ray.data.images import encode_grey, encode_label
from pfit_ray.data.sources.mask_ids import mask_ids, mask_lookup
from pfit_ray.errors import RowError, UserError


def test_voc_in_its_own_order_is_identity() -> None:
    lookup = mask_lookup(DataConfig(source="voc", root="x"))
    assert lookup.dtype == np.uint8
    assert lookup.tolist() == list(range(256))


def test_some_voc_classes_in_another_order() -> None:
    lookup = mask_lookup(DataConfig(source="voc", root="x", classes=("dog", "cat")))
    mask = np.array([[0, 8, 12, 15], [255, 8, 20, 33]], dtype=np.uint8)
    assert lookup[mask].tolist() == [[0, 2, 1, 0], [255, 2, 0, 33]]


def test_own_classes_keep_their_values() -> None:
    for source in ("voc", "folder"):
        lookup = mask_lookup(DataConfig(source=source, root="x", classes=("dog", "gadget")))
        assert lookup.tolist() == list(range(256))
    assert mask_lookup(DataConfig(source="folder", root="x", classes=VOC_CLASSES[::-1]))[1] == 1


CLASSES = ("dog", "cat")
PICTURE = np.array([[0, 1], [2, 255]], np.uint8)
OWN = {0: (0, 0, 0), 1: (10, 200, 30), 2: (250, 50, 120), 255: (224, 224, 192)}


def coloured(label: np.ndarray, colours: dict[int, tuple[int, ...]], mode: str = "RGB") -> bytes:
    """A mask as an RGB or RGBA PNG, or as a palette PNG whose indices are those of the colours' order."""
    order = list(colours)
    if mode == "P":
        picture = Image.fromarray(np.searchsorted(order, label).astype(np.uint8))
        picture.putpalette(bytes(value for key in order for value in colours[key]))
    else:
        pixels = np.array([[colours[int(value)] for value in row] for row in label], np.uint8)
        picture = Image.fromarray(pixels).convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


VOC = {number: tuple(voc_palette()[number].tolist()) for number in (0, 1, 2, 3, 255)}


def folder_with(root: Path, labelmap: str | None, place: str = "masks") -> DataConfig:
    (root / "masks").mkdir()
    if labelmap is not None:
        (root / place / "labelmap.txt").write_text(labelmap)
    return DataConfig(source="folder", root=str(root / "images"), masks=str(root / "masks"), classes=CLASSES)


LABELMAP = "# label:color_rgb\nbackground:0,0,0::\ncat:250,50,120::\ndog:10,200,30::\nignored:224,224,192::\n"


@pytest.mark.parametrize("place", ["masks", "."])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colours_of_a_labelmap(tmp_path: Path, place: str, mode: str) -> None:
    ids = mask_ids(folder_with(tmp_path, LABELMAP, place))
    assert ids.decode(coloured(PICTURE, OWN, mode)).tolist() == PICTURE.tolist()


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_vocs_colours_need_no_labelmap(tmp_path: Path, mode: str) -> None:
    ids = mask_ids(folder_with(tmp_path, None))
    assert ids.decode(coloured(PICTURE, VOC, mode)).tolist() == PICTURE.tolist()
    assert ids.decode(encode_label(PICTURE)).tolist() == PICTURE.tolist()


def test_some_of_vocs_classes_in_vocs_colours() -> None:
    ids = mask_ids(DataConfig(source="voc", root="nowhere", classes=CLASSES))
    colours = {number: tuple(voc_palette()[number].tolist()) for number in (0, 8, 12, 15, 255)}
    mask = np.array([[0, 8, 12], [15, 255, 8]], np.uint8)
    assert ids.decode(coloured(mask, colours)).tolist() == [[0, 2, 1], [0, 255, 2]]


@pytest.mark.parametrize(
    ("labelmap", "colours", "mode", "told"),
    [
        (None, OWN, "RGB", r"\(10, 200, 30\).*labelmap\.txt"),
        (None, {**VOC, 2: VOC[3]}, "RGB", r"\(128, 128, 0\)"),  # the colour of a third class
        (None, {0: VOC[0], 1: VOC[2], 2: VOC[1], 255: VOC[255]}, "P", "numbers and colours disagree"),
        (LABELMAP, {**OWN, 2: (1, 2, 3)}, "P", r"\(1, 2, 3\)"),
        (LABELMAP.replace("cat", "bird"), OWN, "RGB", "'bird'.*not in data.classes"),
    ],
)
def test_colours_that_mean_nothing_are_refused(
    tmp_path: Path, labelmap: str | None, colours: dict[int, tuple[int, ...]], mode: str, told: str
) -> None:
    ids = mask_ids(folder_with(tmp_path, labelmap))
    with pytest.raises(RowError, match=told) as caught:
        ids.decode(coloured(PICTURE, colours, mode))
    assert caught.value.reason == "bad_mask"


def test_classes_of_a_labelmap_that_the_run_lacks_are_background_if_it_says_so(tmp_path: Path) -> None:
    data = folder_with(tmp_path, LABELMAP.replace("cat", "bird")).model_copy(update={"unknown_classes": "ignore"})
    assert mask_ids(data).decode(coloured(PICTURE, OWN)).tolist() == [[0, 1], [0, 255]]


def test_numbers_beside_a_labelmap_of_another_order_are_refused(tmp_path: Path) -> None:
    grey = encode_grey(PICTURE)
    with pytest.raises(RowError, match="another order of classes"):
        mask_ids(folder_with(tmp_path, LABELMAP)).decode(grey)
    (tmp_path / "masks" / "labelmap.txt").write_text("background:0,0,0::\ndog:1,1,1::\ncat:2,2,2::\n")
    ids = mask_ids(DataConfig(source="folder", root="x", masks=str(tmp_path / "masks"), classes=CLASSES))
    assert ids.decode(grey).tolist() == PICTURE.tolist()


@pytest.mark.parametrize("line", ["cat:1,2::", "cat:1,2,256::", "cat:1,2,x::", "cat"])
def test_a_damaged_labelmap_is_a_mistake(tmp_path: Path, line: str) -> None:
    with pytest.raises(UserError, match=r"labelmap\.txt, line 2"):
        mask_ids(folder_with(tmp_path, f"background:0,0,0::\n{line}\n"))


def test_two_names_of_one_colour_are_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'cat' and 'dog' have the same colour"):
        mask_ids(folder_with(tmp_path, "cat:1,2,3::\ndog:1,2,3::\n"))


def test_transparency_and_size(tmp_path: Path) -> None:
    ids = mask_ids(folder_with(tmp_path, None))
    see_through = {**VOC, 1: (128, 0, 0)}
    data = Image.open(io.BytesIO(coloured(PICTURE, see_through, "RGBA")))
    data.putalpha(7)
    buffer = io.BytesIO()
    data.save(buffer, "PNG")
    for content, size in ((buffer.getvalue(), None), (coloured(PICTURE, VOC), (3, 2))):
        with pytest.raises(RowError) as caught:
            ids.decode(content, size)
        assert caught.value.reason == "bad_mask"
