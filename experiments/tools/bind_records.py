"""Give records of schema 3 the digests of schema 4, after computing their numbers again; damaged ones are left alone.

``python -m experiments.tools.bind_records``: every scale of ``$VSWIN_RESULTS``.
"""

from __future__ import annotations

from dataclasses import replace

from .. import folders
from ..files import write_text
from ..registry.recipe import Scale
from ..results.record import content_digest, dump
from ..results.recorded import SCHEMA
from ..results.verify import verify


def bind(scale: Scale) -> int:
    """Write the intact records of ``scale`` that have no digests anew, with them; returns their number."""
    verified = verify(scale)
    unbound = [record for record in verified.records if record.schema != SCHEMA]
    for record in unbound:
        bound = replace(record, schema=SCHEMA, details=content_digest(verified.details[record.name]))
        write_text(folders.records(scale) / f"{record.name}.json", dump(bound))
    return len(unbound)


if __name__ == "__main__":
    for scale in Scale:
        print(f"scale {scale}: {bind(scale)} records were given digests")
