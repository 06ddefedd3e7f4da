"""Settings: what does not exist is refused by name, what is out of range by its range."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ssn_core.errors import SettingError
from ssn_core.recipes import DEFAULT_RECIPE, RECIPES, get_recipe


def test_every_recipe_is_valid_and_survives_its_own_settings() -> None:
    for name, recipe in RECIPES.items():
        recipe.check()
        settings = {k: v for k, v in recipe.settings().items() if k not in ("name", "title", "description")}
        assert get_recipe(name).with_settings(settings) == recipe


def test_the_default_learns_from_image_labels_and_small_defects() -> None:
    assert RECIPES[DEFAULT_RECIPE].pooling_fraction < 0.1


@pytest.mark.parametrize("name", ["poolingfraction", "name", "masks", ""])
def test_a_setting_that_does_not_exist_is_refused_by_name(name: str) -> None:
    with pytest.raises(SettingError, match="does not exist") as caught:
        get_recipe("cam").with_settings({name: 1})
    assert repr(name) in str(caught.value)
    assert "pooling_fraction" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pooling_fraction", -0.1),
        ("pooling_fraction", None),
        ("adaptor", "cubic"),
        ("noise", "none"),
        ("losses", ()),
        ("losses", ("map-l1",)),
        ("beta", 0),
        ("dilation", -1),
        ("plain_class_features", 1),
        ("pooling_fraction", 1.5),
        ("pooling_fraction", float("nan")),
        ("pooling_fraction", "half"),
        ("epochs", -1),
        ("epochs", 2.5),
        ("epochs", True),
        ("image_size", (32, 256)),
        ("image_size", (256,)),
        ("image_size", 256),
        ("image_size", "256"),
        ("image_size", [256, "256"]),
        ("image_size", None),
        ("pooling_fraction", True),
        ("noise_std", None),
        ("flip_good", 1),
        ("backbone", "vgg"),
        ("padding", "mirror"),
        ("batch_size", 0),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_range(name: str, value: object) -> None:
    with pytest.raises(SettingError, match="xpected"):
        get_recipe("cam").with_settings({name: value})


def test_an_unknown_recipe_lists_those_that_exist() -> None:
    with pytest.raises(SettingError, match="gap-cam"):
        get_recipe("padim")


def test_recipes_do_not_wait_for_torch() -> None:
    code = "import sys; import ssn_core.recipes, ssn_core.errors; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
