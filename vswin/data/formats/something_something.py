"""The annotations of Something-Something v2 as they are published: JSON.

``...train.json`` and ``...validation.json`` hold a list of ``{"id": "78687", "template": "Holding [something]", ...}``,
``...labels.json`` the number of every template without its brackets: ``{"Holding something": "20", ...}``. Videos are
called ``ID.webm``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import placed
from .rows import DataError, Gathering, Split, read_text


def classes_of(folder: Path) -> tuple[str, ...]:
    """The templates, without brackets, in the order of the labels file beside the lists."""
    files = sorted(path for path in folder.glob("*labels.json") if not path.name.startswith("."))
    if len(files) != 1:
        got = ", ".join(path.name for path in files) or "none"
        raise DataError(f"{folder}: expected one file of templates, *labels.json, got {got}; put exactly one there")
    [path] = files
    content = _json(path)
    try:
        names = {int(number): str(name) for name, number in content.items()}
    except (AttributeError, TypeError, ValueError):
        raise DataError(
            f'{path}: expected {{"template": "number", ...}}, got something else; restore the file'
        ) from None
    if sorted(names) != list(range(len(content))):
        raise DataError(f"{path}: expected the numbers 0 to {len(content) - 1}, each once; restore the file")
    return tuple(names[number] for number in range(len(names)))


def read(path: Path, *, folder: Path, split: Split, classes: Sequence[str]) -> Gathering:
    """The rows of a split; their ``line`` is the position in the list, from 1.

    A video that is not there gets the name that it would have as ``videos/ID.webm``.
    """
    content = _json(path)
    if not isinstance(content, list):
        raise DataError(f"{path}: expected a list of videos, got {type(content).__name__}; restore the file")
    gathering = Gathering(path, len(classes), unit="entry")
    labels = {name: label for label, name in enumerate(classes)}
    found = placed.find({_id(item) for item in content}, folder=folder, split=split)
    for position, item in enumerate(content, start=1):
        stem = _id(item)
        template = str(item.get("template", "")) if isinstance(item, Mapping) else ""
        label = labels.get(template.replace("[", "").replace("]", ""))
        if not stem:
            gathering.refuse(position, f'expected {{"id": ..., "template": ...}}, got {item!r}; correct the entry')
        elif label is None:
            got = repr(template) if template else "none"
            gathering.refuse(position, f"video {stem}: expected one of {len(classes)} templates, got {got}; correct it")
        elif stem in found.again:
            one, other = found.again[stem]
            gathering.refuse(position, f"expected one video of this name, got {one} and {other}; remove one of them")
        else:
            gathering.add(found.names.get(stem, f"videos/{stem}.webm"), label, line=position)
    return gathering


def _id(item: Any) -> str:
    return str(item.get("id", "")) if isinstance(item, Mapping) else ""


def _json(path: Path) -> Any:
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: expected JSON, got {error.msg}; restore the file") from error
    except (RecursionError, ValueError) as error:
        # nested deeper than any list of videos, or a number of thousands of digits
        raise DataError(f"{path}: expected a list of videos, got JSON that cannot be read ({error})") from error
