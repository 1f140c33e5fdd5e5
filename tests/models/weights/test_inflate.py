"""Image weights to a video model (section 3.4, Tables 8 and 9)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.support.published_numbers import drawn_input, drawn_weights, golden
from tests.support.toy_models import TOYS
from vswin.config import BiasInit, EmbeddingInit, Extent
from vswin.models import SwinTransformer3D, create_model, inflate, read_checkpoint, save_weights
from vswin.models.weights.inflate import inflate_bias_table, inflate_embedding

SWIN = {"embed_dim": 8, "depths": (2, 1), "num_heads": (1, 2), "num_classes": 5}


def image_state(**overrides: Any) -> dict[str, Tensor]:
    torch.manual_seed(3)
    return create_model("swin2d_t", **(SWIN | {"window": 4} | overrides)).state_dict()


def video_model(**overrides: Any) -> nn.Module:
    return create_model("swin_t", **(SWIN | {"window": (4, 4, 4), "drop_path": 0.0} | overrides)).eval()


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("name", ["same_window", "bicubic_window"])
def test_inflation_is_the_published_one(name: str) -> None:
    meta, expected = golden(f"inflate_{name}")
    model = SwinTransformer3D(**meta["config"], patch_norm=True, drop_path_rate=0.0).eval()
    report = inflate({"model": drawn_weights(meta["image_checkpoint_keys"], seed=meta["weight_seed"])}, model)

    state = model.state_dict()
    assert np.array_equal(state["patch_embed.proj.weight"].numpy(), expected["patch_embed"])
    tables = [key.removeprefix("table_head/") for key in expected if key.startswith("table_head/")]
    assert len(tables) == 4
    for table in tables:
        assert np.abs(state[table][:64].numpy() - expected[f"table_head/{table}"]).max() < 1e-6
        assert state[table].double().sum(0).numpy() == pytest.approx(expected[f"table_sum/{table}"], rel=1e-5, abs=1e-4)
    with torch.no_grad():
        output = model(drawn_input(meta["input_shape"], seed=meta["input_seed"]))
    assert np.abs(output.numpy() - expected["output"]).max() < 2e-5

    assert set(report.inflated) == {"patch_embed.proj.weight", *tables}
    assert set(report.resized) == (set(tables) if name == "bicubic_window" else set())
    assert report.random == ()
    assert set(report.unused) == {"head.weight", "head.bias"}


@pytest.mark.parametrize("embedding", EmbeddingInit)
@pytest.mark.parametrize("frames", [1, 2, 4, 8])
def test_both_embeddings_see_a_still_video_as_its_image(embedding: EmbeddingInit, frames: int) -> None:
    """The factor the paper implies between the two inits is one: 0.5 twice, or the whole once."""
    weight, image = torch.randn(6, 3, 4, 4), torch.randn(2, 3, 8, 8)
    still = image[:, :, None].expand(-1, -1, frames, -1, -1)
    inflated = inflate_embedding(weight, frames=frames, init=embedding)
    tokens = nn.functional.conv3d(still, inflated, stride=(frames, 4, 4))
    torch.testing.assert_close(tokens[:, :, 0], nn.functional.conv2d(image, weight, stride=4), atol=1e-5, rtol=1e-5)


def test_a_frame_alone_tells_the_embeddings_apart() -> None:
    weight, clip = torch.randn(6, 3, 4, 4), torch.randn(2, 3, 2, 4, 4)
    center, mean = (
        nn.functional.conv3d(clip, inflate_embedding(weight, frames=2, init=init)).flatten(1)
        for init in (EmbeddingInit.CENTER, EmbeddingInit.INFLATE)
    )
    frames = [nn.functional.conv2d(clip[:, :, t], weight).flatten(1) for t in range(2)]
    torch.testing.assert_close(center, frames[1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(mean, (frames[0] + frames[1]) / 2, atol=1e-5, rtol=1e-5)


def test_duplicated_bias_ignores_time() -> None:
    table = torch.randn(49, 2)
    inflated = inflate_bias_table(table, window=Extent(3, 4, 4), init=BiasInit.DUPLICATE)
    assert torch.equal(inflated.reshape(5, 49, 2), table.expand(5, -1, -1))


def test_spatial_network_classifies_a_still_video_as_the_image_network() -> None:
    """With windows one frame deep nothing depends on time, so the inflated features are the image's."""
    image_model = create_model("swin2d_t", **SWIN, window=4).eval()
    model = video_model(window=(1, 4, 4))
    inflate(image_model.state_dict(), model)
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        features = model.get_submodule("backbone")(image[:, :, None].expand(-1, -1, 4, -1, -1))
        expected = image_model.features(image)  # type: ignore[operator]
    for frame in range(2):
        torch.testing.assert_close(features[:, :, frame], expected[:, 0].movedim(-1, 1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("attention", "added"),
    [("joint", ()), ("split", ("backbone.temporal_layers.",)), ("factorized", (".temporal.",))],
)
def test_only_what_an_image_model_cannot_know_stays_random(attention: str, added: tuple[str, ...]) -> None:
    model = video_model(attention=attention)
    before = weights(model)
    report = inflate(image_state(), model, embedding="center", bias="center")
    after = weights(model)
    parameters = {name for name, _ in model.named_parameters()}
    expected = {name for name in parameters if name.startswith("cls_head.") or any(part in name for part in added)}
    assert set(report.random) == expected
    assert set(report.loaded) | set(report.inflated) | set(report.random) == parameters
    assert not set(report.loaded) & set(report.inflated)
    assert all(torch.equal(before[name], after[name]) for name in expected)
    image = image_state()
    assert all(torch.equal(after[name], image[name.removeprefix("backbone.")]) for name in report.loaded)
    assert f"{len(expected)} left at random" in str(report)


def test_vit_starts_timesformer() -> None:
    vit = TOYS["timesformer_space"].model(image_size=48).state_dict()
    model = TOYS["timesformer_divided"].model()
    before = weights(model)
    report = inflate(vit, model)
    state = model.state_dict()
    assert torch.equal(state["blocks.1.temporal_attn.qkv.weight"], vit["blocks.1.attn.qkv.weight"])
    assert torch.equal(state["blocks.1.temporal_norm1.bias"], vit["blocks.1.norm1.bias"])
    assert torch.equal(state["blocks.0.mlp.fc1.weight"], vit["blocks.0.mlp.fc1.weight"])
    assert torch.equal(state["pos_embed"][:, 0], vit["pos_embed"][:, 0])
    # 6 x 6 to 4 x 4: rows and columns 0, 1, 3, 4 are the nearest.
    nearest = vit["pos_embed"][0, 1:].reshape(6, 6, -1)[[0, 1, 3, 4]][:, [0, 1, 3, 4]].flatten(0, 1)
    assert torch.equal(state["pos_embed"][0, 1:], nearest)
    assert report.resized == ("pos_embed",)
    kept = {"time_embed", "head.weight", "head.bias"}
    kept |= {f"blocks.{block}.temporal_fc.{part}" for block in range(2) for part in ("weight", "bias")}
    assert set(report.random) == kept
    assert all(torch.equal(before[name], state[name]) for name in kept)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("layers.0.blocks.0.attn.relative_position_bias_table", (50, 1)),
        ("layers.0.blocks.0.attn.relative_position_bias_table", (49,)),
        ("patch_embed.proj.weight", (8, 48)),
    ],
)
def test_image_tensors_of_an_impossible_shape_are_named(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"expected {name} of shape .*got \[{shape[0]}"):
        inflate(image_state() | {name: torch.zeros(shape)}, video_model())


@pytest.mark.parametrize("shape", [(1, 18, 32), (17, 32), (1, 0, 32)])
def test_position_embeddings_of_an_impossible_shape_are_named(shape: tuple[int, ...]) -> None:
    state = TOYS["timesformer_space"].model().state_dict() | {"pos_embed": torch.zeros(shape)}
    with pytest.raises(ValueError, match=r"expected pos_embed of shape \[1, 1 \+ n \* n, C\], got"):
        inflate(state, TOYS["timesformer_divided"].model())


def test_what_an_image_model_has_too_much_is_unused() -> None:
    sizes: dict[str, Any] = {"patch_size": (2, 4, 4), "embed_dim": 8, "depths": (2, 1), "num_heads": (1, 2)}
    report = inflate(image_state(), SwinTransformer3D(**sizes, window_size=(4, 4, 4)))
    norm = {"patch_embed.norm.weight", "patch_embed.norm.bias"}
    assert set(report.unused) == norm | {"head.weight", "head.bias"}
    vit = TOYS["timesformer_space"].model().state_dict() | {"pre_logits.fc.weight": torch.zeros(32, 32)}
    report = inflate(vit, TOYS["timesformer_divided"].model())
    assert set(report.unused) == {"pre_logits.fc.weight", "head.weight", "head.bias"}


def test_pretrained_argument_starts_from_an_image_file(tmp_path: Any) -> None:
    path = tmp_path / "image.safetensors"
    image_model = create_model("swin2d_t", **SWIN, window=4)
    save_weights(image_model, path)
    sizes: dict[str, Any] = {
        "patch_size": (2, 4, 4),
        "embed_dim": 8,
        "depths": (2, 1),
        "num_heads": (1, 2),
        "window_size": (2, 4, 4),
    }
    bare = SwinTransformer3D(pretrained=path, **sizes)
    assert torch.equal(bare.norm.weight, image_model.get_parameter("norm.weight"))
    table = read_checkpoint(path)["layers.0.blocks.1.attn.relative_position_bias_table"]
    assert torch.equal(bare.get_parameter("layers.0.blocks.1.attn.relative_position_bias_table")[49:98], table)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"depths": (2, 2)}, "tensors missing"),
        ({"depths": (1, 1)}, "tensors the model does not have"),
        ({"embed_dim": 16}, "tensors of another size"),
        ({"num_heads": (2, 2)}, r"relative_position_bias_table is \[343, 1\] where the model has \[343, 2\]"),
        ({"patch": (2, 2, 2)}, "patch_embed.proj.weight is"),
    ],
)
def test_another_size_is_an_error_and_loads_nothing(overrides: dict[str, Any], message: str) -> None:
    model = video_model(**overrides)
    before = weights(model)
    with pytest.raises(ValueError, match=message):
        inflate(image_state(), model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_video_weights_are_no_image_weights() -> None:
    with pytest.raises(
        ValueError, match=r"got published Video Swin; load Video Swin weights with vswin.load_checkpoint"
    ):
        inflate(video_model().state_dict(), video_model())


def test_images_of_another_architecture_are_refused() -> None:
    with pytest.raises(ValueError, match="expected image weights to start TimeSformer from"):
        inflate(image_state(), TOYS["timesformer_joint"].model())


def test_weights_of_nothing_known_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected weights of .*named \(conv1.weight\)"):
        inflate({"conv1.weight": torch.zeros(1)}, video_model())


def test_unknown_inits_are_refused() -> None:
    with pytest.raises(ValueError, match="expected embedding to be one of 'inflate', 'center'; got 'middle'"):
        inflate(image_state(), video_model(), embedding="middle")
