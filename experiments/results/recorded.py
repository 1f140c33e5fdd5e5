"""Records that are there and intact, as far as can be seen without numpy: what a plan asks, in milliseconds."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .. import folders
from ..files import Damage, DamagedError, read_bytes, read_json
from ..registry.recipe import Scale

SCHEMA = 4
# Records of this schema have no digests. They are still read, and counted by ``vswin verify``.
UNBOUND = 3
REMEDY = "restore it (git checkout), or delete it and run vswin collect, or vswin launch where the run is gone"


def record_name(fields: Mapping[str, Any]) -> str:
    """File name, without suffix, of the record with these ``fields`` (as JSON has them).

    It says what was trained, under which protocol and on which videos it was tested, and the seed or, of published
    weights, which file it was. Raises DamagedError where a field is missing.
    """
    provenance = fields["provenance"]
    checkpoint = provenance.get("checkpoint")
    which = f"seed{fields['seed']}" if checkpoint is None else f"published-{checkpoint['sha256'][:10]}"
    videos = {split: str(manifest["fingerprint"]) for split, manifest in provenance["dataset"].items()}
    digest = hashlib.sha256(json.dumps(videos, sort_keys=True).encode()).hexdigest()[:6]
    return f"{fields['signature']}-{fields['protocol']}-{digest}-{which}"


def digest_of(fields: Mapping[str, Any]) -> str:
    """The digest that a record carries of everything else in it."""
    rest = {name: value for name, value in fields.items() if name != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def read_fields(path: Path) -> dict[str, Any]:
    """The fields of the record at ``path``; raises DamagedError unless it is whole and as it was written."""
    fields = read_json(path, remedy=REMEDY)
    schema = fields.get("schema")
    if schema not in (UNBOUND, SCHEMA):
        raise DamagedError(Damage(path, f"expected record schema {UNBOUND} or {SCHEMA}, got {schema!r}", REMEDY))
    if schema == SCHEMA and fields.get("digest") != digest_of(fields):
        raise DamagedError(Damage(path, "was changed after it was written: its digest is another", REMEDY))
    return fields


def check_name(path: Path, name: str) -> None:
    """See that ``path`` has the ``name`` that its content gives; raises DamagedError for copies and foreign files."""
    if path.name != f"{name}.json":
        raise DamagedError(Damage(path, f"is not named after its content, {name}.json: a copy?", "delete or rename it"))


def recorded(scale: Scale) -> Iterator[tuple[Path, Damage | None]]:
    """Every record file of ``scale``, with what is wrong with it or the arrays beside it, as far as is quickly seen."""
    for path in sorted(folders.records(scale).glob("*.json")):
        try:
            check_name(path, record_name(read_fields(path)))
            check_archive(path.with_suffix(".npz"))
        except DamagedError as error:
            yield path, error.damage
        else:
            yield path, None


def recorded_tests(scale: Scale) -> set[tuple[str, str, str]]:
    """Signature, protocol and seed (``seed0``) of the intact records of ``scale``, on whatever videos."""
    names = [path.stem.split("-") for path, damage in recorded(scale) if damage is None]
    return {(name[0], name[1], name[-1]) for name in names}


def check_archive(path: Path, *, remedy: str = REMEDY) -> None:
    """See that an npz is whole: its own checksums notice every flipped bit. Raises DamagedError."""
    read_bytes(path, remedy=remedy)
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError) as error:
        raise DamagedError(Damage(path, f"is no whole archive ({error})", remedy)) from error
    if broken:
        raise DamagedError(Damage(path, f"its part {broken} is damaged", remedy))
