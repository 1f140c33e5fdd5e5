"""A recipe's signature is the identity of what is trained."""

from dataclasses import replace
from typing import Any

import pytest

from experiments.registry.recipe import Recipe, changed, difference, flatten
from experiments.registry.recipes import PERCEIVER_K400, SWIN_B_SSV2, SWIN_T_K400, TIMESFORMER_K400
from tests.support.recipe_files import FOLDER, recipe_files
from vswin.config import Attention, Extent

ANOTHER: dict[type, Any] = {bool: lambda v: not v, int: lambda v: v + 1, float: lambda v: v + 0.25}


def altered(value: Any) -> Any:
    if isinstance(value, Extent):
        return Extent(value.time + 1, value.height, value.width)
    if isinstance(value, tuple):
        return (altered(value[0]), *value[1:]) if value else (1,)
    if value is None or (isinstance(value, str) and type(value) is str):
        return f"{value}-other"
    if isinstance(value, str):
        members = list(type(value))  # type: ignore[arg-type]
        return members[(members.index(value) + 1) % len(members)]
    return ANOTHER[type(value)](value)


def value_at(recipe: Recipe, path: str) -> Any:
    value: Any = recipe
    for name in path.split("."):
        value = getattr(value, name)
    return value


KINDS = {"swin": SWIN_T_K400, "ssv2": SWIN_B_SSV2, "timesformer": TIMESFORMER_K400, "perceiver": PERCEIVER_K400}


@pytest.mark.parametrize(("kind", "path"), [(kind, path) for kind, recipe in KINDS.items() for path in flatten(recipe)])
def test_every_field_is_in_exactly_one_signature(kind: str, path: str) -> None:
    recipe = KINDS[kind]
    other = changed(recipe, {path: altered(value_at(recipe, path))})
    training_differs = other.signature != recipe.signature
    protocol_differs = other.protocol_signature != recipe.protocol_signature
    assert (training_differs, protocol_differs) == (not path.startswith("protocol."), path.startswith("protocol."))
    assert list(difference(other, recipe)) == [path]


def test_kinds_of_models_and_starts_are_told_apart_by_their_fields() -> None:
    """A signature knows fields, not classes: two classes must never have the same fields."""
    for part in ("model", "init"):
        classes = {type(getattr(recipe, part)) for recipe in KINDS.values()}
        assert len({tuple(sorted(cls.__dataclass_fields__)) for cls in classes}) == len(classes) > 1


def test_recipes_are_those_of_the_golden_files() -> None:
    """A changed default is a visible difference. If it is meant: ``.venv/bin/python -m tests.support.recipe_files``."""
    assert recipe_files() == {path.name: path.read_text() for path in FOLDER.glob("*.txt")}


def test_signature_does_not_depend_on_the_process() -> None:
    """A golden value: a changed default re-labels every run there is, so it must be a visible difference here."""
    assert SWIN_T_K400.signature == "3dcffee747"


def test_changes_by_path() -> None:
    recipe = changed(SWIN_T_K400, {"model.attention": Attention.SPLIT, "data.clip.length": 16})
    assert recipe.model == replace(SWIN_T_K400.model, attention=Attention.SPLIT)
    assert recipe.data.clip.length == 16
    assert difference(recipe, SWIN_T_K400) == {"model.attention": ("joint", "split"), "data.clip.length": (32, 16)}


@pytest.mark.parametrize("path", ["model.atention", "modle.attention", "optim.lr.head"])
def test_unknown_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=f"no field '{path}' in a recipe"):
        changed(SWIN_T_K400, {path: 1})
