import pytest
from pydantic import ValidationError

from pfit_ray.config.base import Section, option


class Wheel(Section):
    radius: float = option(1.0, "Radius.", unit="metres", gt=0.0)
    spokes: int = option(20, "Spokes.", ge=0)


class Axle(Section):
    left: Wheel = option(Wheel(radius=2.0), "Left.")
    right: Wheel | None = option(None, "Right.")


class Cart(Section):
    name: str = option(..., "Name.")
    front: Axle = option(Axle(left=Wheel(radius=3.0, spokes=8)), "Front.")


def test_what_is_left_out_keeps_the_default_of_its_own_section() -> None:
    cart = Cart.model_validate({"name": "a", "front": {"left": {"spokes": 5}}})
    assert cart.front.left == Wheel(radius=3.0, spokes=5)
    assert cart.front.right is None


def test_a_section_that_is_null_by_default_fills_up_from_its_class() -> None:
    cart = Cart.model_validate({"name": "a", "front": {"right": {"spokes": 5}}})
    assert cart.front.right == Wheel(radius=1.0, spokes=5)
    assert cart.front.left == Wheel(radius=3.0, spokes=8)


def test_sections_as_objects_are_taken_as_they_are() -> None:
    assert Cart(name="a", front=Axle()).front.left.radius == 2.0


@pytest.mark.parametrize(
    ("document", "place", "kind"),
    [
        ({"name": "a", "front": {"left": {"radius": 0}}}, ("front", "left", "radius"), "greater_than"),
        ({"name": "a", "front": {"left": {"radios": 1}}}, ("front", "left", "radios"), "extra_forbidden"),
        ({"name": "a", "front": {"left": {"radius": float("nan")}}}, ("front", "left", "radius"), "finite_number"),
        ({"front": {}}, ("name",), "missing"),
        ({"name": "a", "front": 3}, ("front",), "model_type"),
        ({"name": "a", "front": {"left": 3}}, ("front", "left"), "model_type"),
    ],
)
def test_mistakes_are_found_at_their_place(document: dict, place: tuple[str, ...], kind: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Cart.model_validate(document)
    error = caught.value.errors()[0]
    assert (error["loc"], error["type"]) == (place, kind)


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Cart(name="a").name = "b"


def test_option_keeps_text_and_unit() -> None:
    schema = Wheel.model_json_schema()["properties"]
    assert schema["radius"] == {
        "default": 1.0,
        "description": "Radius.",
        "exclusiveMinimum": 0.0,
        "title": "Radius",
        "type": "number",
        "unit": "metres",
    }
    assert "unit" not in schema["spokes"]
