"""The pixels that weights were trained on: from the file, from the files beside it, or by who wrote it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...config import TIMESFORMER_PIXELS, Pixels
from . import formats
from .errors import UnknownFormatError, WeightsError
from .formats import CheckpointFormat, State
from .networks import canonical_state

# Of formats whose models were trained on other pixels than Video Swin's. mmaction2's configs of TimeSformer
# @4d6c9347: half of the range, of every channel.
_BY_FORMAT: Mapping[CheckpointFormat, Pixels] = {
    formats.TIMESFORMER: TIMESFORMER_PIXELS,
    formats.HF_TIMESFORMER: TIMESFORMER_PIXELS,
    formats.MMACTION_TIMESFORMER: Pixels(mean=(127.5,) * 3, std=(127.5,) * 3),
}
# mmaction2 1.x and what else is built on MMEngine keep them as buffers.
_MEAN, _STD = "data_preprocessor.mean", "data_preprocessor.std"


@dataclass(frozen=True, kw_only=True)
class Folder:
    """All that a Hugging Face folder says about its model besides the weights: see ``read_folder``."""

    classes: tuple[str, ...] = ()
    pixels: Pixels | None = None


def pixels_of(state: State) -> tuple[Pixels, str]:
    """The pixels that the model of ``state`` was trained on, and who says so; those of Video Swin by default."""
    try:
        written_by, canonical = canonical_state(state)
    except UnknownFormatError:
        return Pixels(), "as Video Swin's are"
    mean, std = canonical.get(_MEAN), canonical.get(_STD)
    if mean is not None and std is not None and mean.numel() == std.numel() == 3:
        return Pixels(mean=_three(mean.flatten().tolist()), std=_three(std.flatten().tolist())), "the checkpoint"
    return _BY_FORMAT.get(written_by, Pixels()), f"as {written_by}'s are"


def read_folder(folder: Path) -> Folder:
    """``config.json`` and ``preprocessor_config.json`` of a Hugging Face ``folder``; empty where there are none.

    Values are theirs of pixels from 0 to 255: the preprocessor's factor, by default 1/255, is taken into account.
    Raises WeightsError for files that are not what they should be.
    """
    config, processor = (_read_json(folder / name) for name in ("config.json", "preprocessor_config.json"))
    labels = config.get("id2label")
    classes: tuple[str, ...] = ()
    if isinstance(labels, dict) and set(labels) == {str(number) for number in range(len(labels))}:
        classes = tuple(str(labels[str(number)]) for number in range(len(labels)))
    if "image_mean" not in processor and "do_normalize" not in processor:
        return Folder(classes=classes)
    try:
        factor = float(processor.get("rescale_factor", 1 / 255)) if processor.get("do_rescale", True) else 1.0
        normal = processor.get("do_normalize", True)
        mean, std = (
            _three([float(value) / factor for value in (processor[name] if normal else (default,) * 3)])
            for name, default in (("image_mean", 0.0), ("image_std", 1.0))
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise WeightsError(
            f"expected numbers for image_mean and image_std, three each, in {folder / 'preprocessor_config.json'} "
            f"({type(error).__name__}: {error})"
        ) from error
    return Folder(classes=classes, pixels=Pixels(mean=mean, std=std))


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} cannot be read ({error}); download it again") from error
    return content if isinstance(content, dict) else {}


def _three(values: list[float]) -> tuple[float, float, float]:
    # eight digits: 0.225 over 1/255 is 57.375 again
    first, second, third = (float(f"{value:.8g}") for value in values)
    return first, second, third
