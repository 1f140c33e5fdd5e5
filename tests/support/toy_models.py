"""Every family of models at a width that runs in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vswin.models import create_model

SWIN = {"embed_dim": 16, "depths": (2, 1), "num_heads": (2, 4), "window": (2, 4, 4)}
TIMESFORMER = {"embed_dim": 32, "depth": 2, "num_heads": 4, "patch": 8, "frames": 4, "image_size": 32}
PERCEIVER = {
    "depth": 2,
    "self_per_cross": 1,
    "num_latents": 8,
    "latent_dim": 32,
    "latent_heads": 2,
    "latent_head_dim": 8,
    "cross_head_dim": 8,
    "frequency_bands": 3,
}


@dataclass(frozen=True, kw_only=True)
class Toy:
    """A small model and the shape of one of its inputs, without the batch."""

    name: str
    overrides: dict[str, Any]
    input_shape: tuple[int, ...]

    def model(self, **more: Any) -> nn.Module:
        """With five classes, and weights that are the same in every test and leave no branch at zero."""
        torch.manual_seed(0)
        model = create_model(self.name, num_classes=5, **(self.overrides | more))
        with torch.no_grad():
            for name, value in model.named_parameters():
                if name.endswith("relative_position_bias_table"):
                    value.normal_(std=0.5)
                elif value.ndim > 1:
                    value.normal_(std=value[0].numel() ** -0.5)
                elif "norm" in name and name.endswith("weight"):
                    value.normal_(mean=1.0, std=0.1)
                else:
                    value.normal_(std=0.1)
        return model

    def inputs(self, batch: int, *, seed: int = 1) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(batch, *self.input_shape, generator=generator)


TOYS = {
    "swin_joint": Toy(name="swin_t", overrides=SWIN, input_shape=(3, 8, 32, 32)),
    "swin_split": Toy(name="swin_t", overrides=SWIN | {"attention": "split"}, input_shape=(3, 8, 32, 32)),
    "swin_factorized": Toy(name="swin_t", overrides=SWIN | {"attention": "factorized"}, input_shape=(3, 8, 32, 32)),
    "swin_padded": Toy(name="swin_t", overrides=SWIN, input_shape=(3, 7, 26, 30)),
    "swin2d": Toy(name="swin2d_t", overrides=SWIN | {"window": 4}, input_shape=(3, 32, 32)),
    "timesformer_space": Toy(name="timesformer_space", overrides=TIMESFORMER, input_shape=(3, 4, 32, 32)),
    "timesformer_joint": Toy(name="timesformer_joint", overrides=TIMESFORMER, input_shape=(3, 4, 32, 32)),
    "timesformer_divided": Toy(name="timesformer_divided", overrides=TIMESFORMER, input_shape=(3, 4, 32, 32)),
    "perceiver": Toy(name="perceiver", overrides=PERCEIVER, input_shape=(3, 4, 12, 12)),
}
