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
        ({"root": "photos", "classes": ["cat", "cat"]}, "class 'cat' stands twice"),
        ({"root": "photos", "classes": []}, "1 to 254 classes, not 0"),
        ({"root": "photos", "classes": [f"c{i}" for i in range(255)]}, "1 to 254 classes, not 255"),
        ({"root": "photos", "classes": ["cat"], "train": {"limit": 0}}, "greater than or equal to 1"),
        ({"root": "photos", "classes": ["cat"], "unknown_classes": "drop"}, "'fail' or 'ignore'"),
    ],
)
def test_mistakes(given: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DataConfig.model_validate(given)


def test_image_sets() -> None:
    data = DataConfig.model_validate({"source": "samples", "predict": {"limit": 3}})
    assert data.train == ImageSetConfig(split=None, limit=None)
    assert data.predict == ImageSetConfig(split=None, limit=3)
    assert data.classifier is None


@pytest.mark.parametrize("given", [{"threshold": 1.1}, {"top_k": 0}, {"top_k": 255}, {"empty": "skip"}])
def test_predicted_labels_ranges(given: dict) -> None:
    with pytest.raises(ValidationError):
        PredictedLabelsConfig.model_validate(given)
