"""Frozen configurations: plain data that decides numbers. Imports no torch.

A configuration holds only what changes results. Where something runs, how often it logs and how many workers
decode is passed to the functions that need it and never stands here, so a hash of these values is the identity
of an experiment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from operator import index
from typing import ClassVar, NamedTuple, Self, SupportsIndex, get_args

# The metadata of fields that were added after records were made: where they have their default, plain data leaves them
# out, so that the signatures of those records stay.
ADDED: Mapping[str, bool] = {"added": True}


def is_positive_integer(value: object) -> bool:
    """True if ``value`` counts something: an integer of Python or numpy, but no bool, of at least 1."""
    return isinstance(value, SupportsIndex) and not isinstance(value, bool) and index(value) >= 1


class Extent(NamedTuple):
    """A size over time, height and width: of a window, a patch, a shift or a token grid."""

    time: int
    height: int
    width: int

    @classmethod
    def of(cls, value: Iterable[int]) -> Self:
        """An extent from any three positive integers, numpy's included; raises ValueError otherwise."""
        items = tuple(value) if isinstance(value, Iterable) else ()
        if len(items) != 3 or not all(is_positive_integer(item) for item in items):
            raise ValueError(f"expected three positive integers (time, height, width), got {value!r}")
        return cls(*map(int, items))

    @property
    def volume(self) -> int:
        """Number of cells."""
        return self.time * self.height * self.width

    def __str__(self) -> str:
        return f"{self.time}x{self.height}x{self.width}"


class Attention(StrEnum):
    """Designs of spatio-temporal attention, Table 4 of the paper."""

    JOINT = "joint"
    SPLIT = "split"
    FACTORIZED = "factorized"


class Shift(StrEnum):
    """Which axes the windows of every second block are shifted along, Table 6 of the paper."""

    FULL = "full"
    SPATIAL = "spatial"
    NONE = "none"


class ClampedBias(StrEnum):
    """Ways in which a window clamped in space looks its relative position bias up.

    ``published`` is the slice of the published code, right only for windows clamped in time
    (mmaction/models/backbones/swin_transformer.py of the published repository @db018fb8).
    """

    EXACT = "exact"
    PUBLISHED = "published"


class EmbeddingInit(StrEnum):
    """Ways of making a video patch embedding from an image one, Table 8 of the paper."""

    INFLATE = "inflate"
    CENTER = "center"


class BiasInit(StrEnum):
    """Ways of making a 3D relative position bias from a 2D one, Table 9 of the paper."""

    DUPLICATE = "duplicate"
    CENTER = "center"


@dataclass(frozen=True, kw_only=True)
class Swin3DConfig:
    """Video Swin Transformer (section 3.3): backbone, pooling and linear head.

    Like every configuration of a model it has the name of its ``family``, and of the fields that tell its ``sizes``.
    """

    family: ClassVar[str] = "Video Swin"
    sizes: ClassVar[tuple[str, ...]] = ("embed_dim", "depths", "num_heads")

    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    patch: Extent = Extent(2, 4, 4)
    window: Extent = Extent(8, 7, 7)
    attention: Attention = Attention.JOINT
    shift: Shift = Shift.FULL
    clamped_bias: ClampedBias = ClampedBias.EXACT
    mlp_ratio: float = 4.0
    drop_path: float = 0.1
    head_dropout: float = 0.5
    num_classes: int = 400
    # the paper's models have both; the published class leaves out the norm unless told
    patch_norm: bool = field(default=True, metadata=ADDED)
    qkv_bias: bool = field(default=True, metadata=ADDED)


SWIN_T = Swin3DConfig(embed_dim=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24))
SWIN_S = Swin3DConfig(embed_dim=96, depths=(2, 2, 18, 2), num_heads=(3, 6, 12, 24))
SWIN_B = Swin3DConfig(embed_dim=128, depths=(2, 2, 18, 2), num_heads=(4, 8, 16, 32), drop_path=0.3)
SWIN_L = Swin3DConfig(embed_dim=192, depths=(2, 2, 18, 2), num_heads=(6, 12, 24, 48), drop_path=0.3)


class Sampling(StrEnum):
    """Which frames of a video make a clip.

    ``dense``: ``length`` frames ``interval`` apart (Kinetics). ``uniform``: the video is cut into ``length`` equal
    segments and gives one frame each (Something-Something v2); the interval plays no part.
    """

    DENSE = "dense"
    UNIFORM = "uniform"


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """The frames of one clip, in training and in test alike (section 4.1)."""

    length: int = 32
    interval: int = 2
    sampling: Sampling = Sampling.DENSE


class Antialias(StrEnum):
    """Averaging over all pixels that a smaller one covers. The published resize does none."""

    OFF = "off"
    ON = "on"


class Cropping(StrEnum):
    """Ways of cutting a training crop: ``resized`` takes a box of random area and aspect and resizes it to the crop
    (Video Swin); ``plain`` takes a square of the crop's own size at a random place (TimeSformer).
    """

    RESIZED = "resized"
    PLAIN = "plain"


@dataclass(frozen=True, kw_only=True)
class RandAugmentConfig:
    """RandAugment of the released Something-Something recipe @db018fb8: imgaug's ``RandAugment(n=4, m=7)``.

    ``magnitude`` is on a scale of 30. ``flip`` is the probability of the horizontal flip that imgaug applies first
    whatever the recipe says of flips: 0.5 is what the published model was trained with, 0 what its recipe intends.
    """

    operations: int = 4
    magnitude: int = 7
    flip: float = 0.5


class ChannelOrder(StrEnum):
    """The order of a pixel's colours; ``bgr`` is OpenCV's."""

    RGB = "rgb"
    BGR = "bgr"


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """The numbers that a model is shown: values from 0 to 255, less ``mean`` and divided by ``std``, channels in
    ``order``, as ``mean`` and ``std`` are. Default: img_norm_cfg of the released configs @db018fb8.
    """

    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    order: ChannelOrder = ChannelOrder.RGB


# DATA.MEAN and DATA.STD of the published TimeSformer @a5ef29a7: 0.45 and 0.225 of values from 0 to 1.
TIMESFORMER_PIXELS = Pixels(mean=(114.75, 114.75, 114.75), std=(57.375, 57.375, 57.375))


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """A data set and how its training clips look (defaults: released Kinetics configs @db018fb8).

    ``short_side`` is the range, both ends included, that a clip's shorter side is drawn from. ``area`` and ``aspect``
    belong to ``Cropping.RESIZED``. ``erasing`` is the probability of random erasing. ``pixels`` are those of training
    and test alike.
    """

    dataset: str
    clip: ClipConfig = ClipConfig()
    short_side: tuple[int, int] = (256, 256)
    antialias: Antialias = Antialias.OFF
    cropping: Cropping = Cropping.RESIZED
    crop: int = 224
    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    rand_augment: RandAugmentConfig | None = None
    erasing: float = 0.0
    pixels: Pixels = field(default=Pixels(), metadata=ADDED)


class Split(StrEnum):
    """Parts of a data set; the value is the name of its list, such as ``train.txt``."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


class Precision(StrEnum):
    """Arithmetic of the forward pass; weights and optimiser states stay in fp32. fp16 scales the loss."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Protocol of a test: views are ``clips`` in time times ``crops`` in space (section 4.1).

    ``split``: on which videos. The paper reports accuracy on the validation videos of its data sets. ``precision`` need
    not be that of training: the released models trained in fp16 and were tested in fp32.
    """

    clips: int = 4
    crops: int = 3
    short_side: int = 224
    crop: int = 224
    antialias: Antialias = Antialias.OFF
    split: Split = Split.VAL
    precision: Precision = Precision.FP32

    @property
    def views(self) -> str:
        """``4x3``, as the paper writes it: clips in time x crops in space."""
        return f"{self.clips}x{self.crops}"


class ParameterGroups(StrEnum):
    """Which learning rate and weight decay a parameter trains with.

    ``published``: what the published code really did. mmcv 1.3 applies only the longest matching key, so bias
    tables train at the full head rate without decay, and the backbone's norms are decayed. ``intended``: every
    matching key applies, as in mmaction2 1.x.
    """

    PUBLISHED = "published"
    INTENDED = "intended"


class Optimizer(StrEnum):
    """AdamW (Video Swin) or SGD with Nesterov's momentum (TimeSformer)."""

    ADAMW = "adamw"
    SGD = "sgd"


class Schedule(StrEnum):
    """Learning rate over epochs: ``cosine`` to zero, or ``steps``, times 0.1 at every milestone."""

    COSINE = "cosine"
    STEPS = "steps"


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Optimisation of a model (defaults: section 4.1 and the released configs @db018fb8).

    ``lr`` is the head's rate at the effective batch size ``batch_size``; the backbone's is ``lr * backbone_lr_ratio``.
    ``betas`` belong to AdamW, ``momentum`` to SGD, ``milestones`` (epochs) to ``Schedule.STEPS``. ``clip_norm`` bounds
    the norm of the gradient; ``ema_decay`` tests an exponential moving average of the weights; ``nonfinite_steps`` is
    how many steps with a NaN or infinite loss may be left out before training stops.
    """

    optimizer: Optimizer = Optimizer.ADAMW
    lr: float = 1e-3
    backbone_lr_ratio: float = 0.1
    weight_decay: float = 0.02
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9
    batch_size: int = 64
    epochs: int = 30
    schedule: Schedule = Schedule.COSINE
    milestones: tuple[int, ...] = ()
    warmup_epochs: float = 2.5
    warmup_ratio: float = 0.1
    parameter_groups: ParameterGroups = ParameterGroups.PUBLISHED
    precision: Precision = Precision.FP32
    label_smoothing: float = 0.0
    clip_norm: float | None = None
    ema_decay: float | None = None
    nonfinite_steps: int = 0
    # the micro-batches of a step by which the published warm-up counts; how a step is really cut changes nothing
    accumulation: int = field(default=1, metadata=ADDED)


@dataclass(frozen=True, kw_only=True)
class InitConfig:
    """The image model a video model starts from (section 3.4), by the name of its weights; None is from scratch."""

    image: str | None = None
    embedding: EmbeddingInit = EmbeddingInit.INFLATE
    bias: BiasInit = BiasInit.DUPLICATE


@dataclass(frozen=True, kw_only=True)
class VideoInitConfig:
    """The video model of the same architecture that a video model goes on from, by the name of its weights; the head
    is new (section 4.1: Something-Something v2 starts from Kinetics). ``resize``: one of another window may be
    interpolated to this one's (see ``vswin.models.weights.geometry``).
    """

    video: str
    resize: bool = field(default=False, metadata=ADDED)


Init = InitConfig | VideoInitConfig


# Swin-L at 384 pixels: the paper's text never gives its window; 200.0 M parameters and 2107 GFLOPs fit 8x12x12 only.
SWIN_L_384 = replace(SWIN_L, window=Extent(8, 12, 12))


@dataclass(frozen=True, kw_only=True)
class Swin2DConfig:
    """Swin Transformer for images (Liu et al. 2021a), the source of inflation. ``patch`` and ``window`` are square.

    Drop path rates: configs/swin of github.com/microsoft/Swin-Transformer @f82860bf (L: its ImageNet-22K config).
    """

    family: ClassVar[str] = "image model"
    sizes: ClassVar[tuple[str, ...]] = ("embed_dim", "depths", "num_heads")

    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    patch: int = 4
    window: int = 7
    mlp_ratio: float = 4.0
    drop_path: float = 0.2
    num_classes: int = 1000


SWIN2D_T = Swin2DConfig(embed_dim=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24))
SWIN2D_S = Swin2DConfig(embed_dim=96, depths=(2, 2, 18, 2), num_heads=(3, 6, 12, 24), drop_path=0.3)
SWIN2D_B = Swin2DConfig(embed_dim=128, depths=(2, 2, 18, 2), num_heads=(4, 8, 16, 32), drop_path=0.5)
SWIN2D_L = Swin2DConfig(embed_dim=192, depths=(2, 2, 18, 2), num_heads=(6, 12, 24, 48))


class SpaceTime(StrEnum):
    """Designs of TimeSformer's attention (Table 1 of its paper)."""

    SPACE = "space"
    JOINT = "joint"
    DIVIDED = "divided"


@dataclass(frozen=True, kw_only=True)
class TimeSformerConfig:
    """TimeSformer (Bertasius et al. 2021) on ``frames`` frames of ``image_size`` x ``image_size`` pixels."""

    family: ClassVar[str] = "TimeSformer"
    sizes: ClassVar[tuple[str, ...]] = ("embed_dim", "depth", "attention")

    attention: SpaceTime
    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    patch: int = 16
    frames: int = 8
    image_size: int = 224
    mlp_ratio: float = 4.0
    drop_path: float = 0.1
    num_classes: int = 400


TIMESFORMER_SPACE = TimeSformerConfig(attention=SpaceTime.SPACE)
TIMESFORMER_JOINT = TimeSformerConfig(attention=SpaceTime.JOINT)
TIMESFORMER_DIVIDED = TimeSformerConfig(attention=SpaceTime.DIVIDED)
TIMESFORMER_HR = replace(TIMESFORMER_DIVIDED, frames=16, image_size=448)
TIMESFORMER_L = replace(TIMESFORMER_DIVIDED, frames=96)


class FeedForward(StrEnum):
    """Non-linearity of Perceiver's MLPs: ``geglu`` doubles the first layer, whose one half gates the other."""

    GEGLU = "geglu"
    GELU = "gelu"


class WeightSharing(StrEnum):
    """Weights of Perceiver's repetitions: their own each, or those of the second one for all after the first."""

    NONE = "none"
    AFTER_FIRST = "after_first"


@dataclass(frozen=True, kw_only=True)
class PerceiverConfig:
    """Perceiver (Jaegle et al. 2021) on video. The defaults are the README example of
    github.com/lucidrains/perceiver-pytorch @96097c6a; the Perceiver paper reports no result on Kinetics.

    ``depth`` times: latents attend to the clip, then ``self_per_cross`` times to one another.
    """

    family: ClassVar[str] = "Perceiver"
    sizes: ClassVar[tuple[str, ...]] = ("depth", "num_latents", "latent_dim")

    depth: int = 6
    num_latents: int = 256
    latent_dim: int = 512
    self_per_cross: int = 2
    cross_heads: int = 1
    cross_head_dim: int = 64
    latent_heads: int = 8
    latent_head_dim: int = 64
    frequency_bands: int = 6
    max_frequency: float = 10.0
    mlp_ratio: float = 4.0
    feed_forward: FeedForward = FeedForward.GEGLU
    weight_sharing: WeightSharing = WeightSharing.NONE
    num_classes: int = 400


PERCEIVER = PerceiverConfig()

VideoModelConfig = Swin3DConfig | TimeSformerConfig | PerceiverConfig
ModelConfig = VideoModelConfig | Swin2DConfig


def family_of_fields(names: Iterable[str]) -> str:
    """The family of the configuration that has these fields, or most of them."""
    given = set(names)
    kinds: tuple[type[ModelConfig], ...] = get_args(ModelConfig)
    return min(kinds, key=lambda kind: len(given ^ {field.name for field in fields(kind)})).family


# The names of vswin.create_model.
MODELS: Mapping[str, ModelConfig] = {
    "swin_t": SWIN_T,
    "swin_s": SWIN_S,
    "swin_b": SWIN_B,
    "swin_l": SWIN_L,
    "swin_l_384": SWIN_L_384,
    "swin2d_t": SWIN2D_T,
    "swin2d_s": SWIN2D_S,
    "swin2d_b": SWIN2D_B,
    "swin2d_l": SWIN2D_L,
    "timesformer_space": TIMESFORMER_SPACE,
    "timesformer_joint": TIMESFORMER_JOINT,
    "timesformer_divided": TIMESFORMER_DIVIDED,
    "perceiver": PERCEIVER,
}
