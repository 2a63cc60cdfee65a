import hypothesis.extra.numpy as hnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pfit_ray.ops.regions.outlines import Outline, outlines


def painted(found: list[Outline], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Fill each polygon and its border, one over the other."""
    result = np.zeros(shape, np.uint8)
    for outline in found:
        points = [(int(x), int(y)) for x, y in outline.points]
        mask = Image.new("L", shape[::-1])
        ImageDraw.Draw(mask).polygon(points + points[-1:] * (3 - len(points)), fill=1, outline=1)
        result[np.asarray(mask) > 0] = outline.label
    return result


def test_a_ring_is_a_disc_and_a_hole() -> None:
    label = np.array([[0, 0, 0, 0, 0], [0, 2, 2, 2, 0], [0, 2, 0, 2, 0], [0, 2, 2, 2, 0]], np.uint8)
    disc, hole = outlines(label)
    assert (disc.label, sorted(map(tuple, disc.points.tolist()))) == (2, [(1, 1), (1, 3), (3, 1), (3, 3)])
    assert (hole.label, hole.points.tolist()) == (0, [[2, 2]])


def test_nothing_but_background() -> None:
    assert outlines(np.zeros((3, 4), np.uint8)) == []


@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.sampled_from([0, 1, 2, 255]))
)
def test_painting_gives_the_label_map_again(label: NDArray[np.uint8]) -> None:
    for one in (label, np.kron(label, np.ones((2, 3), np.uint8))):
        np.testing.assert_array_equal(painted(outlines(one), one.shape), one)
