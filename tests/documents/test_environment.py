"""The environment of record installs with every Python that the README promises."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution

from packaging.specifiers import SpecifierSet

from tests.support.places import CLONE

CONSTRAINTS = CLONE / "constraints.txt"
# Debian 12's, Ubuntu 24.04's and Debian 13's, and the newest; some packages ask for a later patch than the first.
PYTHONS = ("3.11.2", "3.12.3", "3.13.5", "3.14.0")


def test_every_pinned_package_takes_the_pythons_of_debian_and_ubuntu() -> None:
    checked, refused = 0, []
    for line in CONSTRAINTS.read_text().splitlines():
        name, _, version = line.partition("==")
        try:
            found = distribution(name)
        except (PackageNotFoundError, ValueError):
            continue
        if found.version.partition("+")[0] != version:
            continue
        wanted = SpecifierSet(found.metadata.json.get("requires_python", ""))
        refused += [f"{line} asks for Python {wanted}, not {python}" for python in PYTHONS if python not in wanted]
        checked += 1
    assert not refused
    assert checked > 100
