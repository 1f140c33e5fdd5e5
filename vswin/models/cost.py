"""Parameters, multiply-accumulates, and FLOPs as the paper counts them.

The paper writes its convention nowhere; its printed numbers reveal it. One multiply-accumulate is one FLOP;
convolutions, linear layers and both matrix products of attention count, on padded windows; every LayerNorm adds two
FLOPs per element. Softmax, GELU, bias and residual additions do not count. That is mmcv's
``get_model_complexity_info`` with the matrix products of attention added by hand (issue 27 of the published
repository), and it reproduces every FLOPs cell of the paper's tables 1-5.

fvcore counts, with two handles: it takes fused attention for free, and has another convention for LayerNorm.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

_Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d

# FLOPs per element of a LayerNorm, as mmcv's counter has them.
NORM_FLOPS = 2


@dataclass(frozen=True, kw_only=True)
class ModuleCost:
    """Cost of a module, by its name in the model: a stage, a block, a head. Counts, for the whole input."""

    name: str
    params: int
    macs: int
    flops: int


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Cost of a model on one input.

    ``params`` counts parameters, shared ones once; ``macs`` multiply-accumulates of matrix products and
    convolutions; ``flops`` is the paper's convention (see :mod:`vswin.models.cost`). ``sections`` (the stages, what
    comes before and after them) add up to the whole; ``modules`` are all of them, each with what lies inside it. Both
    are in the order of the model.
    """

    params: int
    macs: int
    flops: int
    sections: tuple[ModuleCost, ...]
    modules: tuple[ModuleCost, ...]


def count_cost(model: nn.Module, input_shape: Sequence[int]) -> Cost:
    """Parameters, FLOPs and multiply-accumulates of one forward pass in evaluation mode.

    Runs on the meta device: nothing is computed and no weight is allocated. A model built under
    ``with torch.device("meta")`` is enough.

    Args:
        model: any model of this package; left as it was.
        input_shape: of the input, batch included: ``(1, 3, 32, 224, 224)`` gives the cost per view.

    Raises:
        ValueError: the model does not accept such an input.
        ImportError: fvcore is not installed.
    """
    model = _on_meta(model).eval()
    counted = _count(model, tuple(input_shape))

    def cost(name: str, params: int) -> ModuleCost:
        operators = counted.get(name, Counter())
        flops = operators.total()
        return ModuleCost(name=name, params=params, macs=flops - operators["layer_norm"], flops=flops)

    whole, *modules = (cost(name, _parameters(module)) for name, module in model.named_modules())
    return Cost(
        params=whole.params,
        macs=whole.macs,
        flops=whole.flops,
        sections=tuple(section for section in (cost(*named) for named in _sections(model)) if _costs(section)),
        modules=tuple(module for module in modules if _costs(module)),
    )


def _costs(module: ModuleCost) -> bool:
    return bool(module.params or module.flops)


def _parameters(module: nn.Module) -> int:
    """The number of parameters, shared ones counted once."""
    return sum(value.numel() for value in module.parameters())


def _on_meta(model: nn.Module) -> nn.Module:
    """A copy of ``model`` without memory for its weights, fit to be traced."""
    buffers = {id(value): value.to("meta") for value in model.buffers()}
    params = {id(value): nn.Parameter(value.detach().to("meta"), requires_grad=False) for value in model.parameters()}
    copy = deepcopy(model, {**buffers, **params})
    for module in copy.modules():
        if isinstance(module, _Convolution):
            module.forward = partial(_as_product, module)  # type: ignore[method-assign]
    return copy


def _count(model: nn.Module, input_shape: tuple[int, ...]) -> dict[str, Counter[str]]:
    """FLOPs by module and operator, by fvcore; the empty name is the whole model."""
    with warnings.catch_warnings(), torch.no_grad():
        # fvcore scripts a loss on import and traces models, both of which torch 2.13 deprecates
        warnings.filterwarnings("ignore", category=DeprecationWarning, message=r".*torch\.jit")
        try:
            from fvcore.nn import FlopCountAnalysis
        except ModuleNotFoundError as error:
            raise ImportError("count_cost needs fvcore, which is not installed; pip install fvcore") from error
        inputs = torch.empty(input_shape, device="meta")
        analysis = FlopCountAnalysis(model, inputs)
        analysis.set_op_handle("aten::scaled_dot_product_attention", _attention_macs)
        analysis.set_op_handle("aten::layer_norm", _norm_flops)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        try:
            counted: dict[str, Counter[str]] = analysis.by_module_and_operator()
        except ValueError:
            # while it is traced a model sees tensors for sizes, and its messages show them: let it say it in numbers
            model(inputs)
            raise
    return counted


def _attention_macs(inputs: list[Any], _outputs: list[Any]) -> int:
    """Fused attention on query [..., n, d], key [..., m, d], value [..., m, e]."""
    query, key, value = (traced.type().sizes() for traced in inputs[:3])
    return prod(query[:-1]) * int(key[-2]) * int(query[-1] + value[-1])


def _norm_flops(_inputs: list[Any], outputs: list[Any]) -> int:
    return NORM_FLOPS * prod(outputs[0].type().sizes())


def _as_product(convolution: _Convolution, inputs: Tensor) -> Tensor:
    """A matrix product of as many multiply-accumulates, and of the same shape, as ``convolution`` on ``inputs``.

    The tracer cannot follow a convolution on the meta device; on the CPU it would compute the whole model.
    """
    weight = convolution.weight
    geometry: Any = (convolution.kernel_size, convolution.stride, convolution.padding, convolution.dilation)
    size = [
        (int(length) + 2 * pad - spread * (side - 1) - 1) // step + 1
        for length, side, step, pad, spread in zip(inputs.shape[2:], *geometry, strict=True)
    ]
    batch, channels = int(inputs.shape[0]), weight.shape[0]
    # Every output element is a sum over the kernel: weight [out, in / groups, ...].
    kernels = weight.flatten(1)
    product = inputs.new_empty(batch * prod(size), kernels.shape[1]) @ kernels.t()
    return product.reshape(batch, *size, channels).movedim(-1, 1)


def _sections(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, int]]:
    """Names and parameters of what a model consists of: its own parameters, its children and those of its backbone,
    lists by entry.
    """
    for name, value in module.named_parameters(recurse=False):
        yield f"{prefix}{name}", value.numel()
    for name, child in module.named_children():
        if isinstance(child, nn.ModuleList) or name == "backbone":
            yield from _sections(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _parameters(child)
