import pytest
from pydantic import ValidationError

from pfit_ray.config.data import DataConfig, ImageSetConfig, PredictedLabelsConfig


def test_classes_by_source() -> None:
    voc = DataConfig(source="voc", root="VOC2012").class_list
    assert (voc.name(1), voc.name(20), len(voc)) == ("aeroplane", "tvmonitor", 20)
    assert DataConfig(source="samples").class_list.names == ("cat", "cup", "motorbike", "rocket")
    own = DataConfig(source="voc", root="VOC2012", classes=("dog", "cat")).class_list
    assert own.ids == {"dog": 1, "cat": 2}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"source": "voc"}, "source 'voc' needs data.root"),
        ({"root": "photos"}, "source 'folder' needs data.classes"),
        ({"root": "photos", "classes": ["cat", "cat"]}, "class 'cat'"),
        ({"root": "photos", "classes": []}, "1 to 254 classes, not 0"),
        ({"root": "photos", "classes": [f"c{i}" for i in range(255)]}, "1 to 254 classes, not 255"),
        ({"root": "photos", "classes": ["cat"], "train": {"limit": 0}}, "greater than or equal to 1"),
        ({"root": "photos", "classes": ["cat"], "unknown_classes": "drop"}, "'fail' or 'ignore'"),
        (
            {"root": "p", "classes": [True, "cat"]},
            "class 1 is True of type bool, which YAML makes of words",
        ),
        ({"root": "p", "classes": ["cat", 1]}, "class 2 is 1 of type int"),
        ({"root": "p", "classes": ["cat", None]}, "class 2 is None of type NoneType"),
        ({"root": "p", "classes": ["Background", "cat"]}, "class 1 is 'Background': class id 0 is the background"),
        ({"root": "p", "classes": ["__background__"]}, "leave it out"),
        ({"root": "p", "classes": ["caf\u00e9", "cafe\u0301"]}, "class 'caf\u00e9'"),
        ({"root": "p", "classes": ["cat"], "draw_masks": True}, "data.draw_masks does not apply to source 'folder'"),
        ({"root": "p", "classes": ["cat"], "annotations": "i.json"}, "only to source 'coco'"),
        ({"source": "tar", "root": "p", "classes": ["cat"], "masks": "m"}, "to source 'folder' and 'class_folders'"),
        ({"source": "table", "classes": ["cat"]}, "source 'table' needs data.table"),
        ({"source": "table", "table": "t.csv"}, "source 'table' needs data.classes"),
        ({"source": "tar", "classes": ["cat"]}, "source 'tar' needs data.root"),
        ({"source": "parquet", "root": "p"}, "source 'parquet' needs data.classes"),
        (
            {"source": "tar", "root": "p", "classes": ["cat"], "labels": "l.csv"},
            "data.labels does not apply to source 'tar', only to source 'folder'",
        ),
        ({"root": "p", "classes": ["cat"], "image_column": "x"}, "only to source 'parquet'"),
        ({"source": "tar", "root": "p", "classes": ["cat"], "tar_first_class": 2}, "0 or 1"),
        ({"source": "samples", "sample": 0.0}, "greater than 0"),
        ({"source": "samples", "sample": 1.5}, "less than or equal to 1"),
        *(
            ({"source": "samples", "shard": text}, f"data.shard '{text}' must be i/n with i from 1 to n, such as 1/4")
            for text in ("0/4", "5/4", "1", "1/0", "-1/4", "1/4/2", "a/b", "")
        ),
    ],
)
def test_mistakes(given: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DataConfig.model_validate(given)


def test_parts() -> None:
    assert DataConfig(source="samples").shard_numbers == (1, 1)
    assert DataConfig(source="samples", shard="3/12").shard_numbers == (3, 12)


@pytest.mark.parametrize(
    ("root", "place"),
    [
        ("photos/", "photos/"),
        ("s3://b/photos/**/*.jpg", "s3://b/photos"),
        ("s3://b/p*/x/**", "s3://b"),
        ("/**", "/"),
        ("**/*.jpg", "."),
        ("photos/*.jpg", "photos/*.jpg"),
    ],
)
def test_listed_place(root: str, place: str) -> None:
    assert DataConfig(root=root, classes=("cat",)).listed_place == place
    assert DataConfig(source="voc", root=root).listed_place is None


def test_image_sets() -> None:
    data = DataConfig.model_validate({"source": "samples", "predict": {"limit": 3}})
    assert data.train == ImageSetConfig(split=None, limit=None)
    assert data.predict == ImageSetConfig(split=None, limit=3)
    assert data.classifier is None


@pytest.mark.parametrize("given", [{"threshold": 1.1}, {"top_k": 0}, {"top_k": 255}, {"empty": "never"}])
def test_predicted_labels_ranges(given: dict) -> None:
    with pytest.raises(ValidationError):
        PredictedLabelsConfig.model_validate(given)
