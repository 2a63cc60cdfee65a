import io

import numpy as np
import pytest
from PIL import Image

from pfit_ray.errors import RowError
from pfit_ray.tasks.decode import DecodeStage


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def test_image_height_and_width() -> None:
    image = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    row = {"encoded": png(image)}
    DecodeStage(max_pixels=6).process(row)
    np.testing.assert_array_equal(row["image"], image, strict=True)
    assert (row["height"], row["width"]) == (2, 3)
    assert row["encoded"] == png(image)


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "empty_file"), (b"GIF8", "unreadable"), (png(np.zeros((3, 3, 3), np.uint8)), "too_large")],
)
def test_bad_bytes(data: bytes, reason: str) -> None:
    with pytest.raises(RowError) as caught:
        DecodeStage(max_pixels=6).process({"encoded": data})
    assert caught.value.reason == reason
