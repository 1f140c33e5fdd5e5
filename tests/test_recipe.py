"""A recipe's signature is the identity of what is trained."""

from dataclasses import replace
from typing import Any

import pytest

from experiments.baselines import SWIN_T_K400
from experiments.recipe import changed, difference, flatten
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


def value_at(path: str) -> Any:
    value: Any = SWIN_T_K400
    for name in path.split("."):
        value = getattr(value, name)
    return value


@pytest.mark.parametrize("path", list(flatten(SWIN_T_K400)))
def test_every_field_is_in_exactly_one_signature(path: str) -> None:
    other = changed(SWIN_T_K400, {path: altered(value_at(path))})
    training_differs = other.signature != SWIN_T_K400.signature
    protocol_differs = other.protocol_signature != SWIN_T_K400.protocol_signature
    assert (training_differs, protocol_differs) == (not path.startswith("protocol."), path.startswith("protocol."))
    assert list(difference(other, SWIN_T_K400)) == [path]


def test_signature_does_not_depend_on_the_process() -> None:
    """A golden value: a changed default re-labels every run there is, so it must be a visible difference here."""
    assert SWIN_T_K400.signature == "6a0a4abad1"


def test_changes_by_path() -> None:
    recipe = changed(SWIN_T_K400, {"model.attention": Attention.SPLIT, "data.clip.length": 16})
    assert recipe.model == replace(SWIN_T_K400.model, attention=Attention.SPLIT)
    assert recipe.data.clip.length == 16
    assert difference(recipe, SWIN_T_K400) == {"model.attention": ("joint", "split"), "data.clip.length": (32, 16)}


@pytest.mark.parametrize("path", ["model.atention", "modle.attention", "optim.lr.head"])
def test_unknown_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=f"no field '{path}' in a recipe"):
        changed(SWIN_T_K400, {path: 1})
