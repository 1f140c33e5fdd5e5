"""The network among the tensors of a checkpoint: found by its anchors, at any depth and under any prefix.

Training frameworks put a network's tensors under keys of a file and behind prefixes of their own, and beside them what
is no part of it: averaged weights, counters, weights of losses, states of optimisers. An anchor is the end of a name
that every network of a format has; what stands in front of it is the network's place.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from torch import Tensor

from ..families import Family
from .errors import UnknownFormatError, WeightsError
from .formats import FORMATS, CheckpointFormat, State, few

# Keys under which files keep the weights, the most usual first: of several networks the one under the first is taken.
_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "module", "network", "net", "weights", "student")
# Parts of names that only say how a network was run: data parallel, compiled, sharded, recomputing.
_TRANSPARENT = re.compile(r"(?:(?<=^)|(?<=\.))(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# Parts of a place that say that the weights are an average over training.
_AVERAGED = re.compile(r"(?:^|[._])(?:ema|averaged?|swa|teacher|momentum|shadow)(?:[._]|$)|ema_model|model_?ema")
# The states of optimisers have the parameters' names, too.
_OPTIMISER = re.compile(r"(^|_)optim(i[sz]ers?)?(_.*)?$", flags=re.IGNORECASE)
# How deep a mapping may lie in others; one may even hold itself.
_DEEPEST = 6


class WeightSet(StrEnum):
    """The weights to take from a file that has both: an average over training, or those of the last step (``raw``)."""

    AVERAGED = "averaged"
    RAW = "raw"


@dataclass(frozen=True)
class CheckpointContent:
    """The ``tensors`` of a checkpoint by name; ``notes``, a sentence each: what else it has and what was chosen."""

    tensors: dict[str, Tensor]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Network:
    """The ``tensors`` of one network without their ``place``, which is what stands in front of every name.

    ``names`` are those in the checkpoint, by the network's own.
    """

    place: str
    format: CheckpointFormat
    tensors: dict[str, Tensor]
    names: dict[str, str]
    is_averaged: bool

    def __str__(self) -> str:
        return f"{self.place.rstrip('.') or 'the file itself'} ({len(self.tensors)} tensors, {self.format})"


def canonical_state(
    state: Mapping[str, Any], *, source: str = "state dict", family: Family | None = None
) -> tuple[CheckpointFormat, dict[str, Tensor]]:
    """The format of a state dict, and the tensors of its network under the names of our models.

    Video Swin: ``backbone.`` and ``cls_head.`` even if the file has no head. What is no part of the network keeps its
    name. Of raw and averaged weights the averaged ones are taken. Weights of a ``family`` that only this package
    writes are recognised, too. Raises UnknownFormatError.
    """
    tensors = select(state, WeightSet.AVERAGED, source=source).tensors
    known = FORMATS if family is None or not family.marks else (*FORMATS, _own_format(family))
    found = networks_in(tensors, known)
    if not found:
        raise UnknownFormatError(
            f"expected weights of {', '.join(map(str, known))}; the {source} is none of them, its tensors are "
            f"named{few(tuple(tensors))}"
        )
    network = choose(found, WeightSet.AVERAGED, source=source)
    used = set(network.names.values())
    rest = {name: value for name, value in tensors.items() if name not in used}
    canonical = network.format.convert(network.tensors)
    return network.format, {**{name: value for name, value in rest.items() if name not in canonical}, **canonical}


def select(content: Any, weights: WeightSet, *, source: str) -> CheckpointContent:
    """The tensors of the network in ``content``, an unpickled file, and all that lies beside them under the same key.

    Names are the file's, without the keys that they lie under. Empty if there is no tensor. Of a file without a network
    of a known format: what lies under the most usual key, else the mapping with the most tensors.
    """
    flat, keys = _flatten(content)
    found = networks_in(flat)
    if not found:
        # one of this package, perhaps, that only its model tells
        place = _usual(keys, flat)
        return CheckpointContent({name.removeprefix(place): flat[name] for name in flat if name.startswith(place)})
    swapped = isinstance(content, Mapping) and "message_hub" in content and "ema_state_dict" in content
    network = choose(found, weights, source=source, swapped=swapped)
    mine = list(network.names.values())
    wrapper = max((key for key in keys if all(name.startswith(key) for name in mine)), key=len, default="")
    others = [other for other in found if other is not network]
    dropped = {name for other in others for name in other.names.values()} - set(mine)
    kept = {name.removeprefix(wrapper): flat[name] for name in flat if name.startswith(wrapper) and name not in dropped}
    notes = [f"of {network} and {', '.join(map(str, others))} the first was taken"] if others else []
    keys_of_file = [key for key, value in content.items() if isinstance(key, str) and not isinstance(value, Tensor)]
    if aside := [key for key in keys_of_file if not any(name.startswith(f"{key}.") for name in mine)]:
        notes.append(f"left aside: {', '.join(map(repr, aside))}")
    return CheckpointContent(kept, tuple(notes))


def networks_in(tensors: State, formats: Sequence[CheckpointFormat] = FORMATS) -> list[Network]:
    """Every network of a known format among ``tensors``, in the order of their places."""
    plain = _without_wrappers(tensors)
    anchors = {anchor for written_by in formats for anchor in written_by.anchors}
    places = {
        (name.removesuffix(anchor), name)
        for anchor in anchors
        for name in plain
        if name == anchor or name.endswith(f".{anchor}")
    }
    found: dict[str, CheckpointFormat] = {}
    claimed: set[str] = set()
    # from outside, so that a network comes with the head that stands beside its backbone
    for place, anchored in sorted(places, key=lambda item: len(item[0])):
        if place in found or anchored in claimed:
            continue
        mine = {name.removeprefix(place): tensors[plain[name]] for name in plain if name.startswith(place)}
        written_by = next((each for each in formats if each.recognises(mine)), None)
        if written_by:
            found[place] = written_by
            claimed |= {f"{place}{anchor}" for anchor in written_by.anchors}
    return [_network(place, written_by, plain, tensors, found) for place, written_by in sorted(found.items())]


def choose(found: Sequence[Network], weights: WeightSet, *, source: str, swapped: bool = False) -> Network:
    """The network among ``found`` that has the ``weights``; ``swapped``: the file calls averaged what is raw.

    MMEngine's EMA hook swaps the two when it saves, so that ``state_dict`` has the average. Raises WeightsError where
    raw weights are asked for and there are none, and where several networks are as usual as each other.
    """
    averaged = [network for network in found if network.is_averaged != swapped]
    raw = [network for network in found if network not in averaged]
    if weights is WeightSet.RAW and not raw:
        raise WeightsError(
            f"expected raw weights beside the averaged ones in the {source}, got only {', '.join(map(str, found))}"
        )
    mine = raw if weights is WeightSet.RAW or not averaged else averaged
    best = min(map(_rank, mine))
    first = [network for network in mine if _rank(network) == best]
    if len(first) > 1:
        raise WeightsError(
            f"expected one network in the {source}, got {len(first)}: {', '.join(map(str, first))}; save the one you "
            "want in a file of its own"
        )
    return first[0]


def _rank(network: Network) -> int:
    parts = network.place.split(".")
    return min((_WRAPPERS.index(part) for part in parts if part in _WRAPPERS), default=len(_WRAPPERS))


def _network(
    place: str, written_by: CheckpointFormat, plain: Mapping[str, str], tensors: State, found: Iterable[str]
) -> Network:
    inner = [other for other in found if other != place and other.startswith(place)]
    names = {
        name.removeprefix(place): plain[name]
        for name in plain
        if name.startswith(place) and not any(name.startswith(other) for other in inner)
    }
    for before, inside, after in (name.partition("cls_head.") for name in plain):
        # beside a backbone that something else is wrapped around
        if inside and place.startswith(before) and not before.startswith(place):
            names[f"{inside}{after}"] = plain[f"{before}{inside}{after}"]
    return Network(
        place=place,
        format=written_by,
        tensors={name: tensors[original] for name, original in names.items()},
        names=names,
        is_averaged=bool(_AVERAGED.search(place)) or f"{place}n_averaged" in plain,
    )


def _own_format(family: Family) -> CheckpointFormat:
    return CheckpointFormat(
        f"{family} of this package",
        family,
        anchors=family.marks[:1],
        recognises=lambda state: all(mark in state for mark in family.marks),
    )


def _without_wrappers(tensors: State) -> dict[str, str]:
    """The names of ``tensors`` without transparent parts, each with the name that it had."""
    plain = {name: _TRANSPARENT.sub("", name) for name in tensors}
    count = Counter(plain.values())
    return {short if count[short] == 1 else name: name for name, short in plain.items()}


def _flatten(content: Any) -> tuple[dict[str, Tensor], list[str]]:
    """Every tensor by all the keys that lead to it, joined by dots, and the places of the mappings that hold any."""
    flat: dict[str, Tensor] = {}
    places: list[str] = []

    def visit(item: Mapping[Any, Any], place: str, depth: int) -> None:
        named = {key: value for key, value in item.items() if isinstance(key, str)}
        for key, value in named.items():
            if isinstance(value, Tensor):
                flat[f"{place}{key}"] = value
            elif isinstance(value, Mapping) and depth < _DEEPEST and not _OPTIMISER.search(key):
                visit(value, f"{place}{key}.", depth + 1)
        if any(isinstance(value, Tensor) for value in named.values()):
            places.append(place)

    if isinstance(content, Mapping):
        visit(content, "", 0)
    return flat, places


def _usual(places: Sequence[str], flat: Iterable[str]) -> str:
    """The place among ``places`` where weights usually are, or most of the tensors."""
    for wrapper in _WRAPPERS:
        for place in places:
            if place.rstrip(".").rpartition(".")[2] == wrapper:
                return place
    return max(places, key=lambda place: sum(name.startswith(place) for name in flat), default="")
