"""The weights that training starts from: where they lie here, and where they come from."""

from __future__ import annotations

from pathlib import Path

from vswin.tensor_files import damage_of

from .. import folders
from ..registry.recipe import Scale
from ..registry.stand_ins import SEED, origin
from .directory import RunDirectory

_SWIN = "https://github.com/SwinTransformer/storage/releases/download/v1.0.0"
_VIDEO_SWIN = "https://github.com/SwinTransformer/storage/releases/download/v1.0.4"
_VIT = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-vitjx"

# Named by the READMEs of github.com/microsoft/Swin-Transformer @f82860bf and
# github.com/SwinTransformer/Video-Swin-Transformer @db018fb8, and by vit.py of
# github.com/facebookresearch/TimeSformer @a5ef29a7.
RELEASES = {
    "swin_tiny_patch4_window7_224": _SWIN,
    "swin_small_patch4_window7_224": _SWIN,
    "swin_base_patch4_window7_224": _SWIN,
    "swin_base_patch4_window7_224_22k": _SWIN,
    "swin_large_patch4_window7_224_22k": _SWIN,
    "swin_large_patch4_window12_384_22k": _SWIN,
    "swin_base_patch244_window1677_kinetics400_22k": _VIDEO_SWIN,
    "swin_tiny_patch244_window877_kinetics400_1k": _VIDEO_SWIN,
    "swin_small_patch244_window877_kinetics400_1k": _VIDEO_SWIN,
    "swin_base_patch244_window877_kinetics400_1k": _VIDEO_SWIN,
    "swin_base_patch244_window877_kinetics400_22k": _VIDEO_SWIN,
    "swin_base_patch244_window877_kinetics600_22k": _VIDEO_SWIN,
    "swin_base_patch244_window1677_sthv2": _VIDEO_SWIN,
    "jx_vit_base_p16_224-80ecf9dd": _VIT,
}


def weights_file(name: str, *, scale: Scale = Scale.PAPER) -> Path:
    """The weights of an upstream run of ``scale``; for a published file ``$VSWIN_DATA/weights/<name>.pth``."""
    made_by = origin(name)
    if made_by is not None:
        _, signature = made_by
        return RunDirectory(scale, signature, SEED).weights
    return folders.data() / "weights" / f"{name}.pth"


def lost_weights(run: RunDirectory) -> bool:
    """True where the trained weights of ``run`` are missing, or are not those that were written."""
    try:
        return damage_of(run.weights) is not None
    except OSError:
        return True


def where_to_get(name: str) -> str:
    """Advice for the case that the weights called ``name`` are missing."""
    if name in RELEASES:
        return f"put {RELEASES[name]}/{name}.pth there"
    return "put a checkpoint of any format that vswin.load_checkpoint reads there"
