"""What a model costs: parameters, multiply-accumulates, and FLOPs as the paper counts them.

The paper's convention is not written anywhere; it was identified from its printed numbers. One multiply-accumulate
is one FLOP; convolutions, linear layers and both matrix products of attention count, on padded windows; so do two
FLOPs per element of every LayerNorm. Softmax, GELU, bias and residual additions do not. That is mmcv's
``get_model_complexity_info`` with the matrix products of attention added by hand (issue 27 of the published
repository), and it reproduces every FLOPs cell of the paper's tables 1-5.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten

# FLOPs per element of a LayerNorm, as mmcv's counter has them.
NORM_FLOPS = 2


@dataclass(frozen=True, kw_only=True)
class SectionCost:
    """Cost of one part of a model: a stage, an embedding, a head. Counts, for the whole input."""

    name: str
    params: int
    macs: int
    flops: int


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Cost of a model on one input; ``sections`` add up to it, in the order of the model.

    ``params`` counts parameters, shared ones once; ``macs`` multiply-accumulates of matrix products and
    convolutions; ``flops`` is the paper's convention (see :mod:`vswin.models.cost`).
    """

    params: int
    macs: int
    flops: int
    sections: tuple[SectionCost, ...]


def count_cost(model: nn.Module, input_shape: Sequence[int]) -> Cost:
    """Parameters, FLOPs and multiply-accumulates of one forward pass in evaluation mode.

    Runs on the meta device: nothing is computed and no weight is allocated. A model built under
    ``with torch.device("meta")`` is enough.

    Args:
        model: any model of this package; left as it was.
        input_shape: of the input, batch included: ``(1, 3, 32, 224, 224)`` gives the cost per view.

    Raises:
        ValueError: the model does not accept such an input.
    """
    counter = _Counter()
    tensors = {name: value.to("meta") for name, value in [*model.named_parameters(), *model.named_buffers()]}
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad(), _entered_modules(model, counter.path), counter:
            functional_call(model, tensors, (torch.empty(tuple(input_shape), device="meta"),))
    finally:
        for module, training in modes.items():
            module.training = training

    params: dict[str, int] = defaultdict(int)
    for name, value in model.named_parameters():
        params[_section(model, name)] += value.numel()
    macs, norms = (_by_section(model, counts) for counts in (counter.macs, counter.norms))
    sections = tuple(
        SectionCost(name=name, params=params[name], macs=macs[name], flops=macs[name] + NORM_FLOPS * norms[name])
        for name in _in_model_order(model, [*params, *macs, *norms])
    )
    return Cost(
        params=sum(section.params for section in sections),
        macs=sum(section.macs for section in sections),
        flops=sum(section.flops for section in sections),
        sections=sections,
    )


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts multiply-accumulates, and elements that LayerNorms write, under the path of the running module."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.path = [""]
        self.macs: dict[str, int] = defaultdict(int)
        self.norms: dict[str, int] = defaultdict(int)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        count = _MACS.get(func.overloadpacket)
        if count is not None:
            self.macs[self.path[-1]] += count(args, out)
        if func.overloadpacket is aten.native_layer_norm:
            self.norms[self.path[-1]] += out[0].numel()
        return out


def _matmul_macs(args: tuple[Any, ...], out: Tensor) -> int:
    """mm, bmm: [..., n, k] x [..., k, m]."""
    return out.numel() * int(args[0].shape[-1])


def _added_matmul_macs(args: tuple[Any, ...], out: Tensor) -> int:
    """addmm, baddbmm: what is added comes first."""
    return _matmul_macs(args[1:], out)


def _convolution_macs(args: tuple[Any, ...], out: Tensor) -> int:
    """Every output element is a sum over the kernel: weight [out, in / groups, ...]."""
    return out.numel() * prod(args[1].shape[1:])


def _attention_macs(args: tuple[Any, ...], out: Any) -> int:
    """Fused attention on query [..., n, d], key [..., m, d], value [..., m, e]."""
    query, key, value = args[:3]
    return prod(query.shape[:-1]) * int(key.shape[-2]) * int(query.shape[-1] + value.shape[-1])


_MACS: dict[Any, Callable[[tuple[Any, ...], Any], int]] = {
    aten.mm: _matmul_macs,
    aten.bmm: _matmul_macs,
    aten.addmm: _added_matmul_macs,
    aten.baddbmm: _added_matmul_macs,
    aten.convolution: _convolution_macs,
    aten._scaled_dot_product_flash_attention_for_cpu: _attention_macs,
    aten._scaled_dot_product_flash_attention: _attention_macs,
    aten._scaled_dot_product_efficient_attention: _attention_macs,
    aten._scaled_dot_product_cudnn_attention: _attention_macs,
    aten._scaled_dot_product_fused_attention_overrideable: _attention_macs,
}


@contextmanager
def _entered_modules(model: nn.Module, path: list[str]) -> Iterator[None]:
    """Keeps the names of the modules that are running in ``path``, innermost last."""
    handles = []
    for name, module in model.named_modules():

        def enter(_module: nn.Module, _args: Any, name: str = name) -> None:
            path.append(name)

        def leave(_module: nn.Module, _args: Any, _out: Any) -> None:
            path.pop()

        handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _section(model: nn.Module, path: str) -> str:
    """The part of the model that ``path`` lies in: children of the model and of its backbone, lists by entry."""
    module, parts = model, path.split(".")
    for depth, part in enumerate(parts):
        child = getattr(module, part, None)
        if not isinstance(child, nn.Module):
            return ".".join(parts[:depth]) if depth else path
        if not isinstance(child, nn.ModuleList) and part != "backbone":
            return ".".join(parts[: depth + 1])
        module = child
    return path


def _by_section(model: nn.Module, counts: Mapping[str, int]) -> dict[str, int]:
    summed: dict[str, int] = defaultdict(int)
    for path, count in counts.items():
        summed[_section(model, path)] += count
    return summed


def _in_model_order(model: nn.Module, sections: list[str]) -> list[str]:
    """Sections, each once, in the order their modules are declared; a model's own parameters first."""
    order = {name: rank for rank, (name, _) in enumerate(model.named_modules())}
    return sorted(dict.fromkeys(sections), key=lambda name: order.get(name, -1))
