import pytest

from pfit_ray.data.sources.voc_xml import object_names
from pfit_ray.errors import RowError


def annotation(
    *objects: str, size: str = "<size><width>100</width><height>50</height><depth>3</depth></size>"
) -> bytes:
    return f"<annotation>{size}{''.join(objects)}</annotation>".encode()


def thing(name: str, xmin: object, ymin: object, xmax: object, ymax: object, more: str = "") -> str:
    box = f"<xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax>"
    return f"<object><name>{name}</name><bndbox>{box}</bndbox>{more}</object>"


def test_objects_in_order() -> None:
    data = annotation(thing("dog", 1, 1, 20, 20), thing("cat", 5, 5, 9, 9), thing("dog", 2, 2, 3, 3))
    assert object_names(data) == ["dog", "cat", "dog"]


def test_no_objects() -> None:
    assert object_names(b"<annotation/>") == []


def test_difficult_and_boxless_objects_count() -> None:
    data = annotation(thing("dog", 1, 1, 9, 9, "<difficult>1</difficult>"), "<object><name> cat </name></object>")
    assert object_names(data) == ["dog", "cat"]


def test_parts_are_not_objects() -> None:
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>1</xmax><ymax>1</ymax></bndbox></part>"
    assert object_names(annotation(thing("person", 1, 1, 9, 9, part))) == ["person"]


@pytest.mark.parametrize(
    ("box", "kept"),
    [
        ((5, 5, 6, 6), True),
        ((5, 5, 5, 20), False),
        ((5, 20, 15, 20), False),
        ((5.2, 5, 5.9, 20), False),
        (("45.70000", 5, "46.1", 20), True),
        ((99, 5, 100, 20), False),
        ((98, 5, 100, 20), True),
        ((-9, 5, 0, 20), False),
        ((-9, 5, 1, 20), True),
        ((5, 49, 9, 80), False),
        ((20, 5, 10, 20), True),
    ],
)
def test_only_boxes_without_area_inside_the_image_drop(box: tuple, kept: bool) -> None:
    assert object_names(annotation(thing("dog", *box))) == ["dog"] * kept


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height></size>"])
def test_boxes_where_the_size_is_unknown(size: str) -> None:
    assert object_names(annotation(thing("dog", 1, 1, 900, 9), thing("cat", 3, 1, 3, 9), size=size)) == ["dog"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no element found"),
        (b"<annotation><object>", "no element found"),
        (b"\xff\xfe\x00", "valid VOC XML"),
        (b"<annotation><object/></annotation>", "<object> has no <name>"),
        (annotation(thing("dog", "x", 1, 9, 9)), "invalid literal"),
        (annotation(thing("dog", "", 1, 9, 9)), "<bndbox> has no <xmin>"),
        (b'<?xml version="1.0" encoding="klingon"?><annotation/>', "encoding"),
        (
            b'<!DOCTYPE a [<!ENTITY e "dog">]><annotation><object><name>&e;</name></object></annotation>',
            "document type",
        ),
        ('<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a><annotation/>'.encode("utf-16"), "document type"),
    ],
)
def test_damaged_annotations(data: bytes, words: str) -> None:
    with pytest.raises(RowError, match=words) as caught:
        object_names(data)
    assert caught.value.reason == "no_label"
