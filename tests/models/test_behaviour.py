"""What every model does, at toy width: trains in two precisions, compiles, exports, and depends on its input only."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from tests.support.toy_models import TOYS, Toy
from vswin.models import attention

FAMILIES = [name for name in TOYS if name != "swin_padded"]


@pytest.fixture(params=TOYS)
def toy(request: pytest.FixtureRequest) -> Toy:
    return TOYS[request.param]


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Toy:
    return TOYS[request.param]


def logits(model: nn.Module, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        return model(inputs)


def test_every_parameter_gets_a_gradient(toy: Toy) -> None:
    model = toy.model().train()
    output = model(toy.inputs(2))
    assert output.shape == (2, 5)
    output.square().sum().backward()
    without = [
        name for name, value in model.named_parameters() if value.grad is None or not value.grad.isfinite().all()
    ]
    assert without == []


@pytest.mark.parametrize("how", ["weights", "autocast"])
def test_bf16_stays_near_fp32(toy: Toy, how: str) -> None:
    model, inputs = toy.model().eval(), toy.inputs(2)
    expected = logits(model, inputs)
    if how == "weights":
        output = model.bfloat16()(inputs.bfloat16())
    else:
        with torch.autocast("cpu", torch.bfloat16):
            output = model(inputs)
    assert output.dtype is torch.bfloat16
    output.float().square().sum().backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in model.parameters())
    assert (output.float() - expected).norm() < 0.03 * expected.norm()


def test_samples_of_a_batch_do_not_meet(toy: Toy) -> None:
    model, inputs = toy.model().eval(), toy.inputs(3)
    together = logits(model, inputs)
    alone = torch.cat([logits(model, inputs[index : index + 1]) for index in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_what_was_computed_before_does_not_matter(toy: Toy) -> None:
    model, inputs = toy.model().eval(), toy.inputs(2)
    fresh = logits(model, inputs)
    if not toy.name.startswith("timesformer"):
        # Another size, so that windows are clamped or padded otherwise.
        logits(model, torch.randn(1, *(size if index == 0 else size + 9 for index, size in enumerate(toy.input_shape))))
    logits(deepcopy(model).to("meta"), inputs.to("meta"))
    logits(model.double(), inputs.double())
    assert torch.equal(logits(model.float(), inputs), fresh)


def test_recomputed_activations_give_the_same_gradients(toy: Toy) -> None:
    gradients = []
    for recompute in (False, True):
        # Stochastic depth draws the same numbers both times only if the recomputation restores the generator.
        model = toy.model(activation_checkpointing=recompute, **drop_path(toy)).train()
        torch.manual_seed(3)
        model(toy.inputs(4)).square().sum().backward()
        gradients.append({name: value.grad for name, value in model.named_parameters()})
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5, rtol=1e-5)


def drop_path(toy: Toy) -> dict[str, float]:
    return {} if toy.name == "perceiver" else {"drop_path": 0.5}


@pytest.mark.parametrize("name", ["swin_joint", "swin_split", "timesformer_divided", "perceiver"])
def test_attention_in_chunks_is_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On CUDA a kernel's batch is limited, and every place of a clip is one sample of temporal attention."""
    results = []
    for limit in (attention.LARGEST_BATCH, 3):
        monkeypatch.setattr(attention, "LARGEST_BATCH", limit)
        model = TOYS[name].model().eval()
        output = model(TOYS[name].inputs(4))
        output.square().sum().backward()
        results.append((output.detach(), {name: value.grad for name, value in model.named_parameters()}))
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=1e-4)


def test_timesformer_drops_the_branch_of_each_group_on_its_own() -> None:
    """Of each frame in spatial attention, and of each place in temporal attention, as published."""
    block = TOYS["timesformer_divided"].model(drop_path=0.5).blocks[-1].train()  # type: ignore[index,union-attr]
    torch.manual_seed(0)
    dropped = (block._drop(torch.ones(2, 40, 5, 3)) == 0).flatten(2)  # type: ignore[operator]
    assert torch.equal(dropped.any(2), dropped.all(2))
    assert ((dropped.all(2).sum(1) > 8) & (dropped.all(2).sum(1) < 32)).all()


def test_compiles_as_one_graph(family: Toy) -> None:
    torch._dynamo.reset()
    model, inputs = family.model().eval(), family.inputs(2)
    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend="aot_eager")
    output = compiled(inputs)
    torch.testing.assert_close(output, model(inputs), atol=1e-5, rtol=1e-5)
    output.sum().backward()
    assert all(value.grad is not None for value in model.parameters())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # on importing the compiler
@pytest.mark.parametrize("name", FAMILIES)
def test_compiles_to_machine_code(name: str) -> None:
    torch._dynamo.reset()
    model, inputs = TOYS[name].model().eval(), TOYS[name].inputs(2)
    compiled = torch.compile(model, dynamic=False)
    torch.testing.assert_close(compiled(inputs), model(inputs), atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_compiled_models_follow_a_change_of_size() -> None:
    torch._dynamo.reset()
    model = TOYS["swin_joint"].model().eval()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for shape in ((2, 3, 8, 32, 32), (2, 3, 8, 64, 64), (1, 3, 7, 26, 30), (2, 3, 8, 32, 32), (2, 3, 4, 16, 16)):
        inputs = torch.randn(shape)
        torch.testing.assert_close(logits(compiled, inputs), logits(model, inputs), atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:.*isinstance\\(treespec, LeafSpec\\).*:FutureWarning")
def test_exports_for_any_batch_and_runs_in_onnxruntime(family: Toy, tmp_path: Path) -> None:
    model, inputs = family.model().eval(), family.inputs(2)
    program = torch.export.export(model, (inputs,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},))
    more = family.inputs(3, seed=2)
    expected = logits(model, more)
    torch.testing.assert_close(logits(program.module(), more), expected, atol=1e-5, rtol=1e-5)

    path = tmp_path / "model.onnx"
    torch.onnx.export(program, (), path, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(path)
    (output,) = session.run(None, {session.get_inputs()[0].name: more.numpy()})
    assert np.abs(output - expected.numpy()).max() < 1e-4
