"""Benchmark cases: a model, an input, a precision, and a forward pass alone or with its backward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vswin.config import Precision
from vswin.models import create_model
from vswin.models.form import Form, set_form


class TimedWork(StrEnum):
    """``training``: forward and backward pass of a cross-entropy loss; the optimiser's step is not in it."""

    INFERENCE = "inference"
    TRAINING = "training step"


DTYPES = {Precision.FP32: torch.float32, Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One line of the table. bf16 means autocast over fp32 weights."""

    model: str
    precision: Precision
    work: TimedWork
    frames: int = 32
    size: int = 224
    batch: int = 1
    overrides: Mapping[str, Any] = field(default_factory=dict)

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.precision]

    def label(self) -> str:
        overrides = "".join(f" {key}={value}" for key, value in self.overrides.items())
        return f"{self.model}{overrides} {self.batch}x3x{self.frames}x{self.size}x{self.size}"

    def flops(self) -> float:
        """FLOPs of the published algorithm, masked pairs of tokens included; a backward pass is two forward passes.

        Counted by torch itself, since fvcore may not be installed where nothing but the models is measured.
        """
        with torch.device("meta"):
            model = create_model(self.model, **self.overrides).eval().requires_grad_(False)
            clips = torch.empty(self.batch, 3, self.frames, self.size, self.size)
        # the counter knows the fused kernels of CUDA only
        with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            model(clips)
        return counter.get_total_flops() * (3 if self.work is TimedWork.TRAINING else 1)

    def call(self, form: Form, *, device: torch.device | None = None, compiled: bool = False) -> Callable[[], object]:
        """The function to time, on weights and clips that are the same in every form."""
        device = device or torch.device("cpu")
        torch.manual_seed(0)
        # Without what draws random numbers, so that all forms compute the same.
        model = create_model(self.model, drop_path=0.0, head_dropout=0.0, **self.overrides).to(device)
        clips = torch.randn(self.batch, 3, self.frames, self.size, self.size).to(device)
        labels = torch.arange(self.batch, device=device)
        set_form(model, form)
        training = self.work is TimedWork.TRAINING
        model.train(training)
        forward: Callable[[Tensor], Tensor] = torch.compile(model) if compiled else model

        def infer() -> object:
            with torch.no_grad(), torch.autocast(device.type, self.dtype, enabled=self.dtype is not torch.float32):
                return forward(clips)

        def train() -> object:
            model.zero_grad(set_to_none=True)
            with torch.autocast(device.type, self.dtype, enabled=self.dtype is not torch.float32):
                logits = forward(clips)
            loss = F.cross_entropy(logits.float(), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        return train if training else infer
