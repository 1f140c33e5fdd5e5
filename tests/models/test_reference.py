"""Both forms of a model are one function: the published algorithm written plainly, and what is computed instead."""

from __future__ import annotations

import pickle
from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.models.test_swin3d_windows import cells, clamped_windows, extents, numbered, shifted_grids
from tests.support.toy_models import TOYS, Toy
from vswin.config import ClampedBias, Extent
from vswin.models import attention, blocks, box_attention, chunked_mlp, create_model
from vswin.models.attention import WindowAttention
from vswin.models.box_attention import _bias_of_boxes
from vswin.models.boxes import displaced_windows, pieces
from vswin.models.form import Form, set_form
from vswin.models.windows import NO_SHIFT

SWIN = [name for name in TOYS if name.startswith("swin")]


@pytest.fixture(params=TOYS)
def toy(request: pytest.FixtureRequest) -> Toy:
    return TOYS[request.param]


@pytest.fixture(params=SWIN)
def swin(request: pytest.FixtureRequest) -> Toy:
    return TOYS[request.param]


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Toys attend in boxes and chunk their MLPs, as the real models do."""
    monkeypatch.setattr(attention, "SMALLEST_BOXED", 1)
    monkeypatch.setattr(blocks, "SMALLEST_CHUNKED", 1)


@pytest.fixture(params=[(2**21, 2**20), (700, 2**12), (1, 2**12)], ids=["one_piece", "pieces", "one_box_and_head"])
def boxed(request: pytest.FixtureRequest, large: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in pieces of any size."""
    largest_piece, largest_chunk = request.param
    monkeypatch.setattr(box_attention, "LARGEST_PIECE", largest_piece)
    monkeypatch.setattr(chunked_mlp, "LARGEST_CHUNK", largest_chunk)


def results(model: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    """The output, and its gradient with respect to the input and every parameter."""
    model.zero_grad()
    inputs = inputs.detach().requires_grad_()
    output = model(inputs)
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    (output * weights).sum().backward()
    assert inputs.grad is not None
    gradients = {
        name.removeprefix("_orig_mod."): value.grad.clone()  # the compiler's
        for name, value in model.named_parameters()
        if value.grad is not None
    }
    assert len(gradients) == len(list(model.parameters()))
    return {"output": output.detach(), "input": inputs.grad, **gradients}


def in_form(form: Form, model: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    set_form(model, form)
    return results(model, inputs)


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor], *, tolerance: float) -> None:
    """Relative to the largest entry of each tensor."""
    for name, value in one.items():
        largest = value.abs().max()
        assert largest > 0, name
        assert (value - other[name]).abs().max() <= tolerance * largest, name


def test_forms_agree(toy: Toy) -> None:
    model, inputs = toy.model().double().train(), toy.inputs(3).double()
    set_form(model.eval(), Form.REFERENCE)
    expected = results(model, inputs)
    assert_equal(expected, in_form(Form.FAST, model, inputs), tolerance=1e-11)


@pytest.mark.usefixtures("boxed")
def test_boxes_are_masked_windows(swin: Toy) -> None:
    model, inputs = swin.model().double().eval(), swin.inputs(3).double()
    expected = in_form(Form.REFERENCE, model, inputs)
    assert_equal(expected, in_form(Form.FAST, model, inputs), tolerance=1e-11)


@pytest.mark.usefixtures("boxed")
@pytest.mark.parametrize("clamped_bias", list(ClampedBias))
@pytest.mark.parametrize("shift", ["full", "spatial", "none"])
def test_clamped_windows_and_every_shift(shift: str, clamped_bias: ClampedBias) -> None:
    swin = TOYS["swin_joint"]
    model = swin.model(window=(3, 5, 3), shift=shift, clamped_bias=clamped_bias).double().eval()
    for shape in ((2, 3, 8, 32, 32), (1, 3, 2, 12, 40), (1, 3, 11, 50, 22)):
        inputs = torch.randn(shape, dtype=torch.float64)
        expected = in_form(Form.REFERENCE, model, inputs)
        assert_equal(expected, in_form(Form.FAST, model, inputs), tolerance=1e-11)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [False, True], ids=["weights", "autocast"])
def test_rounding_errors_are_no_larger_than_those_of_the_reference(dtype: torch.dtype, *, autocast: bool) -> None:
    """Against the same weights in double precision, over outputs and gradients of several models."""
    swin = TOYS["swin_joint"]
    errors = dict.fromkeys(Form, 0.0)
    for seed in range(4):
        model, inputs = swin.model().eval(), swin.inputs(2, seed=seed)
        exact = in_form(Form.REFERENCE, deepcopy(model).double(), inputs.double())
        for form in Form:
            if autocast:
                with torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
                    measured = in_form(form, model, inputs)
            else:
                measured = in_form(form, deepcopy(model).to(dtype), inputs.to(dtype))
            errors[form] += sum(
                ((measured[name] - value).norm() / value.norm()).item() for name, value in exact.items()
            ) / len(exact)
    assert errors[Form.REFERENCE] > 0
    assert errors[Form.FAST] <= 1.02 * errors[Form.REFERENCE]


@pytest.mark.usefixtures("boxed")
def test_equal_inputs_give_equal_bits(swin: Toy) -> None:
    model, inputs = swin.model().train(), swin.inputs(2)
    torch.manual_seed(0)
    first = results(model, inputs)
    torch.manual_seed(0)
    second = results(deepcopy(model), inputs)
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.usefixtures("boxed")
def test_recomputed_activations_give_the_same_bits() -> None:
    swin = TOYS["swin_joint"]
    stored, recomputed = (
        results(swin.model(activation_checkpointing=how, drop_path=0.0, head_dropout=0.0).train(), swin.inputs(2))
        for how in (False, True)
    )
    assert all(torch.equal(value, recomputed[name]) for name, value in stored.items())


@pytest.mark.usefixtures("boxed")
def test_changed_weights_count_at_once(swin: Toy) -> None:
    """By an optimiser, by loading, in place, behind autograd's back: nothing computed from old weights is used."""
    model, inputs = swin.model().eval(), swin.inputs(1)
    with torch.no_grad():
        before = model(inputs)
        loaded = {name: value * 1.5 for name, value in model.state_dict().items() if value.is_floating_point()}
        model.load_state_dict(loaded, strict=False)
        after_loading = model(inputs)
        for value in model.parameters():
            value.data.div_(1.5)
        restored = model(inputs)
        for value in model.parameters():
            value.mul_(1.5)
        assert not torch.allclose(before, after_loading, rtol=0.01)
        torch.testing.assert_close(restored, before, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(model(inputs), after_loading, atol=1e-5, rtol=1e-4)


@pytest.mark.usefixtures("boxed")
def test_the_form_is_no_part_of_the_weights() -> None:
    model = TOYS["swin_factorized"].model().eval()
    names = list(model.state_dict())
    inputs = TOYS["swin_factorized"].inputs(1)
    set_form(model, "reference")
    with torch.no_grad():
        expected = model(inputs)
        assert list(model.state_dict()) == names
        for copy in (deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(copy(inputs), expected)
        set_form(model, "fast")
        torch.testing.assert_close(model(inputs), expected, atol=1e-5, rtol=1e-4)
        assert not torch.equal(model(inputs), expected)
    with pytest.raises(ValueError, match="expected form to be one of 'fast', 'reference'; got 'slow'"):
        set_form(model, "slow")


@pytest.mark.usefixtures("boxed")
def test_frozen_parts_get_no_gradient() -> None:
    model, inputs = TOYS["swin_joint"].model().eval(), TOYS["swin_joint"].inputs(1)
    expected = results(model, inputs)
    tables = [name for name, _ in model.named_parameters() if name.endswith("bias_table")]
    for name in tables:
        model.get_parameter(name).requires_grad_(False)
    model.zero_grad(set_to_none=True)
    output = model(inputs)
    weights = torch.linspace(-1, 1, output.numel()).view_as(output)
    (output * weights).sum().backward()
    for name, value in model.named_parameters():
        if name in tables:
            assert value.grad is None
        else:
            assert value.grad is not None
            assert torch.equal(value.grad, expected[name]), name


def saved_bytes(model: nn.Module, inputs: Tensor) -> tuple[int, int]:
    """Of what a forward pass keeps for the backward pass, each storage once: all of it, and the largest."""
    storages: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        storages[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        model(inputs).sum()
    return sum(storages.values()), max(storages.values())


def test_scores_are_not_kept() -> None:
    """At the real window: a block keeps its activations, but nothing of the size of its scores."""
    swin = TOYS["swin_joint"]
    model = swin.model(window=(8, 7, 7)).train()
    inputs = torch.randn(1, 3, 32, 112, 112)
    tokens, windows, heads = 16 * 28 * 28, 32, 2
    hidden = tokens * 4 * 16 * 4
    scores = windows * heads * (8 * 7 * 7) ** 2 * 4
    total, largest = saved_bytes(model, inputs)
    assert largest == max(hidden, inputs.nbytes) < scores
    set_form(model, Form.REFERENCE)
    reference_total, reference_largest = saved_bytes(model, inputs)
    assert reference_largest == scores
    assert reference_total - total > 2 * scores


# -- when the fast form is not to be had


@pytest.mark.usefixtures("boxed")
def test_hooks_of_the_layers_are_called() -> None:
    model, inputs = TOYS["swin_joint"].model().eval(), TOYS["swin_joint"].inputs(1)
    mlp = model.get_submodule("backbone.layers.0.blocks.0.mlp")
    called = []
    for name, layer in mlp.named_children():
        layer.register_forward_hook(lambda _module, _args, _out, name=name: called.append(name))
    expected = TOYS["swin_joint"].model().eval()(inputs)
    torch.testing.assert_close(model(inputs), expected, atol=1e-5, rtol=1e-4)
    assert called == ["fc1", "act", "drop", "fc2", "drop"]


@pytest.mark.usefixtures("boxed")
def test_replaced_layers_are_used() -> None:
    model, inputs = TOYS["swin_joint"].model().eval(), TOYS["swin_joint"].inputs(1)
    mlp = model.get_submodule("backbone.layers.0.blocks.0.mlp")
    assert isinstance(mlp, blocks.Mlp)
    mlp.fc2 = nn.Sequential(mlp.fc2, nn.Hardtanh(-0.01, 0.01))
    set_form(model, Form.REFERENCE)
    expected = model(inputs)
    set_form(model, Form.FAST)
    torch.testing.assert_close(model(inputs), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.usefixtures("boxed")
def test_dropout_between_the_layers_is_drawn() -> None:
    """With the numbers that the reference form draws."""
    mlp = blocks.Mlp(16, hidden=64, drop=0.3).train()
    x = torch.randn(2, 50, 16)
    outputs = []
    for form in Form:
        set_form(mlp, form)
        torch.manual_seed(0)
        outputs.append(mlp(x))
    assert torch.equal(*outputs)
    assert not torch.allclose(mlp(x), outputs[0], rtol=0.01)


@pytest.mark.usefixtures("boxed")
def test_attention_weights_are_dropped_in_training() -> None:
    """Where no box drops them: by the masked windows."""
    module = WindowAttention(8, window=Extent(2, 4, 4), num_heads=2, attn_drop=0.5)
    x = torch.randn(1, 4, 8, 8, 8)
    assert not module.train().boxed(x, module.window)
    assert module.eval().boxed(x, module.window)


# -- boxes


@given(shifted_grids(), st.integers(1, 3), st.integers(1, 3), st.integers(1, 200))
@settings(deadline=None)
def test_pieces_hold_every_displaced_window_and_head_once(
    case: tuple[Extent, Extent, Extent], batch: int, heads: int, largest: int
) -> None:
    grid, window, shift = case

    def displaced_window(cell: Extent) -> tuple[int, ...]:
        return tuple((position - moved) // size for position, moved, size in zip(cell, shift, window, strict=True))

    expected: dict[tuple[int, ...], list[int]] = {}
    for number, cell in enumerate(cells(grid)):
        expected.setdefault(displaced_window(cell), []).append(number)
    wanted = sorted(
        (sample, head, tokens) for sample in range(batch) for head in range(heads) for tokens in expected.values()
    )
    samples = torch.cat([numbered(grid) + sample * grid.volume for sample in range(batch)])
    found = []
    for boxes in displaced_windows(grid, batch=batch, window=window, shift=shift):
        for part, chosen in pieces(boxes, heads=heads, largest=largest):
            scores = part.count * (chosen.stop - chosen.start) * part.size.volume**2
            assert scores <= largest or part.count == chosen.stop - chosen.start == 1
            tokens = part.view(samples).movedim((1, 3, 5), (1, 2, 3)).reshape(part.count, part.size.volume)
            for row in tokens.tolist():
                sample = row[0] // grid.volume
                numbers = [token - sample * grid.volume for token in row]
                found += [(sample, head, numbers) for head in range(heads)[chosen]]
    assert sorted(found) == wanted


@given(clamped_windows())
@settings(deadline=None)
def test_bias_by_offset_is_the_bias_of_every_box(case: tuple[Extent, Extent]) -> None:
    window, size = case
    attention = WindowAttention(4, window=window, num_heads=2)
    by_offset = attention.offset_bias(window)
    assert torch.equal(_bias_of_boxes(by_offset, window=window, size=size), attention.bias(size))
    clamped = attention.offset_bias(size)
    assert torch.equal(_bias_of_boxes(clamped, window=size, size=size), attention.bias(size))


@given(extents, st.integers(1, 2))
@settings(deadline=None, max_examples=20)
def test_the_gradient_of_boxes_is_the_derivative(window: Extent, batch: int) -> None:
    grid = Extent(*(2 * size for size in window))
    shift = Extent(*(size // 2 for size in window))
    heads, time, space = 2, 2 * window.time - 1, window.height * window.width
    qkv = torch.randn(batch, *grid, 3 * heads * 2, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(heads, time, space, space, dtype=torch.float64, requires_grad=True)
    for moved in {shift, NO_SHIFT}:
        assert torch.autograd.gradcheck(
            lambda x, b, moved=moved: box_attention.box_attention(
                x, num_heads=heads, scale=0.7, offset_bias=b, window=window, shift=moved
            ),
            (qkv, bias),
            fast_mode=True,
        )


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_forms_agree_on_the_real_swin_t(precision: str) -> None:
    """At its real size every block attends in boxes. In bf16, how far each is from double precision counts."""
    torch.manual_seed(0)
    model = create_model("swin_t", num_classes=5, drop_path=0.0, head_dropout=0.0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("relative_position_bias_table"):
                value.normal_(std=0.5)
            elif value.ndim > 1:
                value.normal_(std=value[0].numel() ** -0.5)
    inputs = torch.randn(1, 3, 16, 224, 224)
    exact = in_form(Form.REFERENCE, deepcopy(model).double(), inputs.double())
    errors = {}
    for form in Form:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            measured = in_form(form, model, inputs)
        if precision == "fp32":
            assert_equal(exact, {name: value.double() for name, value in measured.items()}, tolerance=1e-4)
        errors[form] = sum(((measured[name] - value).norm() / value.norm()).item() for name, value in exact.items())
    assert errors[Form.FAST] <= 1.02 * errors[Form.REFERENCE], errors


@pytest.mark.usefixtures("large")
def test_compiled_models_are_those_of_small_inputs() -> None:
    """As one graph, at sizes whose eager form has loops over boxes and chunks."""
    torch._dynamo.reset()
    model, inputs = TOYS["swin_joint"].model().eval(), TOYS["swin_joint"].inputs(2)
    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend="eager")
    expected = results(model, inputs)
    assert_equal(expected, results(compiled, inputs), tolerance=1e-5)


@pytest.mark.usefixtures("large")
def test_exported_models_have_no_boxes() -> None:
    model, inputs = TOYS["swin_joint"].model().eval(), TOYS["swin_joint"].inputs(2)
    program = torch.export.export(model, (inputs,))
    torch.testing.assert_close(program.module()(inputs), model(inputs), atol=1e-5, rtol=1e-4)
    assert "scaled_dot_product_attention" in program.graph_module.code
