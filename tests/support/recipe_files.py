"""Every recipe of scale paper as a text whose diff can be read: tests/golden/recipes/.

After a change that is meant, write the files anew and read what changed:

    .venv/bin/python -m tests.support.recipe_files
"""

from __future__ import annotations

import json

from experiments.registry.catalogue import experiments
from experiments.registry.recipe import Recipe, Scale, flatten
from tests.support.places import GOLDEN

FOLDER = GOLDEN / "recipes"


def recipe_files() -> dict[str, str]:
    """The text of every distinct recipe, by the name of the file of the first row that has it."""
    names: dict[Recipe, list[str]] = {}
    for experiment in experiments(Scale.PAPER):
        for variant in experiment.variants:
            names.setdefault(variant.at(Scale.PAPER), []).append(variant.id)
    return {f"{ids[0].replace('/', '-')}.txt": text(recipe, rows=ids) for recipe, ids in names.items()}


def text(recipe: Recipe, *, rows: list[str]) -> str:
    """The rows that share ``recipe``, its signatures, and every field on a line of its own."""
    fields = flatten(recipe)
    width = max(map(len, fields))
    lines = [
        f"# {', '.join(rows)}",
        f"{'signature':{width}}  {recipe.signature}",
        f"{'protocol signature':{width}}  {recipe.protocol_signature}",
        *(f"{path:{width}}  {json.dumps(value)}" for path, value in fields.items()),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in FOLDER.glob("*.txt"):
        path.unlink()
    for name, content in recipe_files().items():
        (FOLDER / name).write_text(content)
