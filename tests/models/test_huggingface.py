"""Agreement with Hugging Face transformers on shared random weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    PerceiverConfig,
    PerceiverModel,
    SwinConfig,
    SwinForImageClassification,
    SwinForMaskedImageModeling,
    SwinModel,
    TimesformerConfig,
    TimesformerForVideoClassification,
    ViTConfig,
    ViTForImageClassification,
)

from vswin.config import FeedForward
from vswin.models import create_model
from vswin.models.perceiver import Perceiver
from vswin.models.weights import formats
from vswin.models.weights.loading import load_state

CLASSES = 5


def drawn(model: nn.Module) -> nn.Module:
    """Random weights of a scale at which every branch shows."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "norm" in name and name.endswith("weight"):
                value.normal_(mean=1.0, std=0.1)
            else:
                value.normal_(std=value[0].numel() ** -0.5 if value.ndim > 1 else 0.1)
    return model.eval()


def close(one: Tensor, other: Tensor) -> None:
    assert one.shape == other.shape
    assert other.abs().max() > 0.1
    torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [56, 64], ids=["whole-windows", "padded"])
def test_swin_for_images(size: int) -> None:
    sizes = {"embed_dim": 16, "depths": (2, 2), "num_heads": (2, 4)}
    config = SwinConfig(image_size=size, patch_size=4, window_size=7, num_labels=CLASSES, drop_path_rate=0.0, **sizes)
    theirs = drawn(SwinForImageClassification(config))
    ours = create_model("swin2d_t", num_classes=CLASSES, **sizes).eval()
    report = load_state(ours, theirs.state_dict())
    assert report.format is formats.HF_SWIN
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        close(ours(images), theirs(images).logits)


@pytest.mark.parametrize("kind", [SwinModel, SwinForMaskedImageModeling])
def test_swin_without_a_classifier(kind: type[nn.Module]) -> None:
    sizes = {"embed_dim": 16, "depths": (2, 2), "num_heads": (2, 4)}
    config = SwinConfig(image_size=64, patch_size=4, window_size=4, drop_path_rate=0.0, **sizes)
    theirs = drawn(kind(config))
    ours = create_model("swin2d_t", num_classes=CLASSES, window=4, **sizes).eval()
    report = load_state(ours, theirs.state_dict(), head="keep")
    assert report.random == ("head.weight", "head.bias")
    assert ("embeddings.mask_token" in report.unused) == ("decoder.0.weight" in report.unused) == (kind != SwinModel)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        pooled = getattr(theirs, "swin", theirs)(images).last_hidden_state.mean(dim=1)
        close(ours.features(images).mean(dim=(1, 2, 3)), pooled)


@pytest.mark.parametrize("generation", ["names of today", "names of the hub"])
def test_vit(generation: str) -> None:
    config = ViTConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=1,
        intermediate_size=256,
        image_size=32,
        patch_size=8,
        num_labels=CLASSES,
        layer_norm_eps=1e-6,
    )
    theirs = drawn(ViTForImageClassification(config))
    state = dict(theirs.state_dict())
    if generation == "names of the hub":
        rules = (
            ("vit.layers.", "vit.encoder.layer."),
            (".attention.o_proj.", ".attention.output.dense."),
            (".attention.q_proj.", ".attention.attention.query."),
            (".attention.k_proj.", ".attention.attention.key."),
            (".attention.v_proj.", ".attention.attention.value."),
            (".mlp.fc1.", ".intermediate.dense."),
            (".mlp.fc2.", ".output.dense."),
        )
        for before, after in rules:
            state = {name.replace(before, after): value for name, value in state.items()}
    ours = create_model(
        "timesformer_space",
        num_classes=CLASSES,
        embed_dim=64,
        depth=2,
        num_heads=1,
        patch=8,
        image_size=32,
        frames=1,
    ).eval()
    assert load_state(ours, state).format is formats.HF_VIT
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        close(ours(images[:, :, None]), theirs(images).logits)


def test_swin_of_files_on_the_hub() -> None:
    """Their files keep the names of the library's version 4."""
    sizes = {"embed_dim": 8, "depths": (2,), "num_heads": (2,)}
    source = create_model("swin2d_t", num_classes=CLASSES, **sizes)
    state = {}
    for name, value in source.state_dict().items():
        if ".attn.qkv." in name:
            for part, piece in zip(("query", "key", "value"), value.chunk(3), strict=True):
                state[f"swin.encoder.{name.replace('attn.qkv', f'attention.self.{part}')}"] = piece
            continue
        for ours, theirs in (
            ("attn.proj", "attention.output.dense"),
            ("attn.relative", "attention.self.relative"),
            ("mlp.fc1", "intermediate.dense"),
            ("mlp.fc2", "output.dense"),
            ("norm1", "layernorm_before"),
            ("norm2", "layernorm_after"),
            ("patch_embed.proj", "swin.embeddings.patch_embeddings.projection"),
            ("patch_embed.norm", "swin.embeddings.norm"),
        ):
            name = name.replace(ours, theirs)
        if name.startswith("norm."):
            name = f"swin.layer{name}"
        name = name.replace("head.", "classifier.")
        state[f"swin.encoder.{name}" if name.startswith("layers") else name] = value
    loaded = create_model("swin2d_t", num_classes=CLASSES, **sizes)
    load_state(loaded, state)
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in loaded.state_dict().items())


TIMESFORMER = {"patch": 8, "frames": 4, "image_size": 32, "embed_dim": 32, "depth": 2, "num_heads": 4, "drop_path": 0.0}


def their_timesformer(attention: str) -> nn.Module:
    config = TimesformerConfig(
        image_size=32,
        patch_size=8,
        num_frames=4,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        attention_type=attention,
        num_labels=CLASSES,
    )
    return drawn(TimesformerForVideoClassification(config))


@pytest.mark.parametrize("attention", ["joint", "divided"])
def test_timesformer(attention: str) -> None:
    theirs = their_timesformer(f"{attention}_space_time")
    ours = create_model(f"timesformer_{attention}", num_classes=CLASSES, **TIMESFORMER).eval()
    report = load_state(ours, theirs.state_dict())
    assert report.format is formats.HF_TIMESFORMER
    clips = torch.randn(2, 3, 4, 32, 32)
    with torch.no_grad():
        close(ours(clips), theirs(clips.transpose(1, 2)).logits)


def test_space_only_timesformer_frame_by_frame() -> None:
    """Theirs does not average the frames, so features are compared, before the average and the norm."""
    theirs = their_timesformer("space_only")
    ours = create_model("timesformer_space", num_classes=CLASSES, **TIMESFORMER).eval()
    load_state(ours, theirs.state_dict())
    clips = torch.randn(2, 3, 4, 32, 32)
    with torch.no_grad():
        features = ours.features(clips)  # type: ignore[operator]
        expected = theirs.timesformer(clips.transpose(1, 2)).last_hidden_state  # type: ignore[operator,union-attr]
        close(ours.norm(features).flatten(0, 1), expected)  # type: ignore[operator]


def test_perceiver_of_one_cross_attention() -> None:
    """The architectures coincide for one repetition, plain GELU, and their extra biases at zero."""
    ours = Perceiver(
        8,
        latent_dim=32,
        depth=1,
        self_per_cross=2,
        cross_heads=2,
        cross_head_dim=16,
        latent_heads=2,
        latent_head_dim=16,
        frequency_bands=2,
        feed_forward=FeedForward.GELU,
        num_classes=CLASSES,
    )
    width = 3 + 3 * 5
    config = PerceiverConfig(
        num_latents=8,
        d_latents=32,
        d_model=width,
        num_blocks=1,
        num_self_attends_per_block=2,
        num_self_attention_heads=2,
        num_cross_attention_heads=2,
        qk_channels=32,
        v_channels=32,
        self_attention_widening_factor=4,
        cross_attention_widening_factor=4,
        attention_probs_dropout_prob=0.0,
        hidden_act="gelu",
    )
    drawn(ours)
    theirs = PerceiverModel(config).eval()

    def attend_layer(prefix: str, layer: nn.Module) -> dict[str, Tensor]:
        state = layer.state_dict()
        key, value = state["attn.key_value.weight"].chunk(2)
        renamed = {
            "attention.self.query.weight": state["attn.query.weight"],
            "attention.self.key.weight": key,
            "attention.self.value.weight": value,
            **{f"attention.self.{part}.bias": torch.zeros(32) for part in ("query", "key", "value")},
        }
        for kind in ("weight", "bias"):
            renamed[f"attention.self.layernorm1.{kind}"] = state[f"attn.norm.{kind}"]
            if f"attn.context_norm.{kind}" in state:
                renamed[f"attention.self.layernorm2.{kind}"] = state[f"attn.context_norm.{kind}"]
            renamed[f"attention.output.dense.{kind}"] = state[f"attn.proj.{kind}"]
            renamed[f"layernorm.{kind}"] = state[f"mlp.norm.{kind}"]
            renamed[f"mlp.dense1.{kind}"] = state[f"mlp.fc1.{kind}"]
            renamed[f"mlp.dense2.{kind}"] = state[f"mlp.fc2.{kind}"]
        return {f"{prefix}.{name}": value for name, value in renamed.items()}

    (repetition,) = ours.repetitions
    state = {"embeddings.latents": ours.latents.data}
    state |= attend_layer("encoder.cross_attention", repetition.get_submodule("cross"))
    for index in range(2):
        state |= attend_layer(f"encoder.self_attends.{index}", repetition.get_submodule(f"self_layers.{index}"))
    theirs.load_state_dict(state, strict=True)
    tokens = torch.randn(2, 30, width)
    with torch.no_grad():
        close(ours.encode(tokens), theirs(tokens).last_hidden_state)
