"""Networks found in files of training frameworks: under any key and prefix, among averages, losses and optimisers."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.toy_models import TOYS
from vswin.config import TIMESFORMER_PIXELS, Extent, Pixels
from vswin.models import (
    SwinTransformer3D,
    WeightsError,
    architecture_of,
    build,
    create_model,
    inflate,
    load_checkpoint,
    load_state,
    read_checkpoint,
    read_content,
)
from vswin.models.weights import formats
from vswin.models.weights.geometry import resized_table
from vswin.models.weights.pixels import Folder, pixels_of, read_folder

SWIN = {"embed_dim": 8, "depths": (2, 1), "num_heads": (1, 2), "window": (2, 3, 3), "num_classes": 5}


def network(seed: int = 0, **overrides: Any) -> nn.Module:
    torch.manual_seed(seed)
    return create_model("swin_t", **(SWIN | overrides))


def under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in state.items()}


@pytest.fixture
def state() -> dict[str, Tensor]:
    return dict(network().state_dict())


@pytest.fixture
def other() -> dict[str, Tensor]:
    return dict(network(seed=1).state_dict())


def loaded(content: Any, folder: Path, **options: Any) -> tuple[dict[str, Tensor], Any]:
    path = folder / "checkpoint.pth"
    torch.save(content, path)
    model = network(seed=7)
    report = load_checkpoint(model, path, **options)
    return dict(model.state_dict()), report


def assert_same(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


WRAPPERS = ("module.", "model.", "_orig_mod.", "net.", "student.", "_fsdp_wrapped_module.")


@pytest.mark.parametrize("prefix", ["".join(stack) for n in (1, 2, 3) for stack in itertools.permutations(WRAPPERS, n)])
def test_any_stack_of_prefixes_is_one_thing(prefix: str, state: dict[str, Tensor]) -> None:
    model = network(seed=7)
    load_state(model, under(prefix, state))
    assert_same(dict(model.state_dict()), state)


@pytest.mark.parametrize("inside", ["module.", "_orig_mod.", "net.", "model.module."])
def test_a_backbone_that_was_wrapped_alone_keeps_its_head(inside: str, state: dict[str, Tensor]) -> None:
    wrapped = {name.replace("backbone.", f"backbone.{inside}"): value for name, value in state.items()}
    model = network(seed=7)
    load_state(model, under("model.", wrapped))
    assert_same(dict(model.state_dict()), state)


@pytest.mark.parametrize(
    "key", ["module", "net", "optimized_model", "network", "weights", "state", "ema", "model_ema", "params", "a_b"]
)
def test_any_key_may_hold_it(key: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    optimizer = {"state": {0: {"exp_avg": torch.ones(3)}}}
    content = {"epoch": 3, "outer": {key: under("module.", state)}, "optimizer": optimizer}
    found, report = loaded(content, tmp_path)
    assert_same(found, state)
    assert str(report).endswith("; left aside: 'epoch', 'optimizer'")
    # as DeepSpeed keeps it: the key is a part of no name
    path = tmp_path / "checkpoint.pth"
    torch.save({key: state, "epoch": 3}, path)
    content = read_content(path)
    assert (content.tensors.keys(), content.notes) == (state.keys(), ("left aside: 'epoch'",))


def test_parts_in_mappings_of_their_own_are_one_network(state: dict[str, Tensor], tmp_path: Path) -> None:
    parts = {
        part: {name.partition(".")[2]: value for name, value in state.items() if name.startswith(part)}
        for part in ("backbone", "cls_head")
    }
    for content in (parts, {"model": parts}):
        found, _ = loaded(content, tmp_path)
        assert_same(found, state)


def test_names_of_an_optimisers_states_are_no_network(
    state: dict[str, Tensor], other: dict[str, Tensor], tmp_path: Path
) -> None:
    found, report = loaded({"model": state, "optimizer": {"exp_avg": other}}, tmp_path)
    assert_same(found, state)
    assert "'optimizer'" in str(report)


AVERAGES = {
    "timm": lambda raw, average: {"state_dict": raw, "state_dict_ema": average},
    "torch": lambda raw, average: {
        "model": raw,
        "averaged": {"n_averaged": torch.tensor(3), **under("module.", average)},
    },
    "lightning": lambda raw, average: {
        "state_dict": {
            **under("model.", raw),
            **under("ema_model.module.", average),
            "ema_model.n_averaged": torch.tensor(3),
        }
    },
    "teacher": lambda raw, average: {"student": raw, "teacher": under("backbone_model.", average)},
    # its hook swaps the two when it saves
    "mmengine": lambda raw, average: {
        "state_dict": average,
        "ema_state_dict": {"steps": torch.tensor(3), **under("module.", raw)},
        "message_hub": {},
    },
}


@pytest.mark.parametrize("writer", AVERAGES)
def test_of_raw_and_averaged_weights_the_choice_is_explicit(
    writer: str, state: dict[str, Tensor], other: dict[str, Tensor], tmp_path: Path
) -> None:
    content = AVERAGES[writer](state, other)
    for options, expected in (({}, other), ({"weights": "averaged"}, other), ({"weights": "raw"}, state)):
        found, report = loaded(content, tmp_path, **options)
        assert_same(found, expected)
        assert "the first was taken" in str(report)


def test_raw_weights_that_are_not_there_are_missed(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "average.pth"
    torch.save({"n_averaged": torch.tensor(3), **under("module.", state)}, path)
    with pytest.raises(WeightsError, match="expected raw weights beside the averaged ones"):
        read_checkpoint(path, weights="raw")


def test_two_networks_alike_are_not_guessed_between(
    state: dict[str, Tensor], other: dict[str, Tensor], tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=r"expected one network.*got 2: left \(.*right \("):
        loaded({"left": state, "right": other}, tmp_path)


BESIDE = {
    "cls_head.loss_cls.class_weight": torch.ones(5),
    "criterion.weight": torch.ones(5),
    "aux_head.fc.weight": torch.ones(3, 3),
    "cls_head.fc_aux.weight": torch.ones(3, 16),
    "backbone.mask_token": torch.zeros(1, 8),
    "decoder.0.weight": torch.ones(2, 2),
    "data_preprocessor.mean": torch.zeros(3),
    "n_batches": torch.tensor(4),
}


@pytest.mark.parametrize("head", ["load", "keep"])
def test_what_is_no_part_of_the_network_is_left_aside_by_name(head: str, state: dict[str, Tensor]) -> None:
    model = network(seed=7)
    report = load_state(model, {**state, **BESIDE}, head=head)
    assert set(BESIDE) <= set(report.unused)
    assert torch.equal(model.backbone.patch_embed.proj.weight, state["backbone.patch_embed.proj.weight"])
    assert torch.equal(model.cls_head.fc_cls.weight, state["cls_head.fc_cls.weight"]) == (head == "load")


def test_a_bare_backbone_takes_the_network_out_of_all_of_it(state: dict[str, Tensor]) -> None:
    backbone = network(seed=7).backbone
    report = load_state(backbone, {**state, **BESIDE})
    inner = {name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")}
    assert_same(dict(backbone.state_dict()), inner)
    assert {"cls_head.fc_cls.weight", *BESIDE} <= set(report.unused)


@pytest.mark.parametrize("extra", ["backbone.layers.1.blocks.1.norm1.weight", "backbone.absolute_pos_embed"])
def test_a_part_of_another_network_is_no_bystander(extra: str, state: dict[str, Tensor]) -> None:
    with pytest.raises(WeightsError, match=f"tensors the model does not have .{re.escape(extra)}"):
        load_state(network(), {**state, extra: torch.ones(8)})


class Recorder:
    """A class that a file may name."""


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_named_and_not_run(zipped: bool, state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    content = {"state_dict": state, "hub": Recorder(), "half": torch.ones(3).half(), "view": torch.arange(6.0)[1::2]}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    read = read_content(path)
    assert_same({name: read.tensors[name] for name in state}, state)
    assert "names code (tests.models.weights.test_networks.Recorder), of which none was run" in " ".join(read.notes)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(WeightsError, match="cut short"):
        read_checkpoint(path)


# -- images: other libraries' names; tests/models hold them against those libraries


def test_timm_begins_a_stage_with_the_merging() -> None:
    torch.manual_seed(0)
    image = create_model("swin2d_t", embed_dim=8, depths=(1, 1, 1), num_heads=(1, 2, 4), window=3, num_classes=5)
    theirs = {
        re.sub(r"layers\.(\d+)\.downsample", lambda match: f"layers.{int(match[1]) + 1}.downsample", name).replace(
            "head.", "head.fc."
        ): value
        for name, value in image.state_dict().items()
        if not name.endswith("index")
    }
    sizes = {"embed_dim": 8, "depths": (1, 1, 1), "num_heads": (1, 2, 4), "window": (2, 3, 3)}
    one, two = (network(**sizes, seed=3) for _ in range(2))
    assert inflate(dict(image.state_dict()), one).format is formats.IMAGE_SWIN
    assert inflate(theirs, two).format is formats.TIMM_SWIN
    assert_same(dict(one.state_dict()), dict(two.state_dict()))


# -- other geometry


@pytest.mark.parametrize("window", [(4, 3, 3), (2, 5, 5), (3, 4, 4), (1, 3, 3)])
def test_tables_of_another_window_are_interpolated_on_request(
    window: tuple[int, int, int], state: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save(state, path)
    model = network(window=window, seed=7)
    with pytest.raises(WeightsError, match="Build the model with the checkpoint's window"):
        load_checkpoint(model, path, geometry="exact")
    with pytest.warns(UserWarning, match="3 tensors .* were interpolated"):
        report = load_checkpoint(model, path)
    assert len(report.resized) == 3
    assert "3 resized" in str(report)
    assert "backbone.layers.0.blocks.0.attn.qkv.weight" in report.loaded


def test_time_is_stretched_and_space_is_bicubic() -> None:
    there, here = Extent(3, 2, 2), Extent(5, 2, 2)
    times = torch.arange(-2.0, 3.0).repeat_interleave(9)[:, None]
    stretched = resized_table(times, there, here)
    # -2 to 2 over nine offsets instead of five, none stays none
    torch.testing.assert_close(stretched.view(9, 9)[:, 0], torch.arange(-4.0, 5.0) / 2)
    assert torch.equal(resized_table(times, there, there), times)
    space = torch.randn(5 * 9, 2)
    wide = resized_table(space, there, Extent(3, 4, 4)).view(5, 7, 7, 2)
    expected = torch.nn.functional.interpolate(space.view(5, 3, 3, 2).permute(0, 3, 1, 2), size=(7, 7), mode="bicubic")
    torch.testing.assert_close(wide, expected.permute(0, 2, 3, 1))


def test_positions_of_no_square_grid_are_refused_by_their_size() -> None:
    sizes = {"embed_dim": 64, "depth": 1, "num_heads": 1, "patch": 8, "image_size": 32, "frames": 4}
    timesformer = create_model("timesformer_divided", **sizes)
    state = {**timesformer.state_dict(), "pos_embed": torch.zeros(1, 12, 64)}
    with pytest.raises(WeightsError, match=r"pos_embed is \[1, 12, 64\] where the model has \[1, 17, 64\]"):
        load_state(timesformer, state, geometry="resize")


def test_a_table_that_fits_two_windows_is_asked_about() -> None:
    state = network(window=(5, 7, 7)).state_dict()
    assert architecture_of(state).window == Extent(5, 7, 7)
    bare = {name: value for name, value in state.items() if not name.endswith("index")}
    with pytest.raises(WeightsError, match="fit windows of 1x20x20 and 5x7x7 tokens, and no index buffer tells which"):
        architecture_of(bare)
    config = architecture_of(bare, window=Extent(5, 7, 7))
    load_state(build(config), bare)
    with pytest.raises(WeightsError, match="expected bias tables of a window of 8x7x7"):
        architecture_of(bare, window=Extent(8, 7, 7))


@pytest.mark.parametrize(("patch_norm", "qkv_bias"), list(itertools.product([True, False], repeat=2)))
def test_what_the_published_class_leaves_out_is_told(patch_norm: bool, qkv_bias: bool) -> None:
    torch.manual_seed(0)
    backbone = SwinTransformer3D(
        embed_dim=8, depths=(2, 1), num_heads=(1, 2), window_size=(2, 3, 3), patch_norm=patch_norm, qkv_bias=qkv_bias
    )
    head = {"cls_head.fc_cls.weight": torch.zeros(5, 16), "cls_head.fc_cls.bias": torch.zeros(5)}
    state = under("backbone.", dict(backbone.state_dict())) | head
    config = architecture_of(state)
    assert (config.patch_norm, config.qkv_bias) == (patch_norm, qkv_bias)
    load_state(build(config), state)


# -- pixels


def test_pixels_are_those_of_the_writer_unless_the_file_says() -> None:
    assert pixels_of(network().state_dict()) == (Pixels(), "as published Video Swin's are")
    sizes = {"embed_dim": 64, "depth": 1, "num_heads": 1, "patch": 8, "image_size": 32, "frames": 4}
    timesformer = create_model("timesformer_divided", **sizes)
    assert pixels_of(timesformer.state_dict()) == (TIMESFORMER_PIXELS, "as TimeSformer's are")
    buffers = {
        f"data_preprocessor.{name}": torch.full((3, 1, 1), value) for name, value in (("mean", 2.0), ("std", 3.0))
    }
    # of a network that only its own model tells
    assert pixels_of(TOYS["perceiver"].model().state_dict()) == (Pixels(), "as Video Swin's are")
    told, who = pixels_of({**network().state_dict(), **buffers})
    assert (told, who) == (Pixels(mean=(2.0,) * 3, std=(3.0,) * 3), "the checkpoint")


def test_a_folder_tells_pixels_and_classes(tmp_path: Path) -> None:
    assert read_folder(tmp_path) == Folder()
    processor = tmp_path / "preprocessor_config.json"
    processor.write_text(json.dumps({"image_mean": [0.45] * 3, "image_std": [0.225] * 3}))
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {"1": "run", "0": "jump"}}))
    assert read_folder(tmp_path) == Folder(classes=("jump", "run"), pixels=TIMESFORMER_PIXELS)
    processor.write_text(json.dumps({"image_mean": [127.5] * 3, "image_std": [127.5] * 3, "do_rescale": False}))
    assert read_folder(tmp_path).pixels == Pixels(mean=(127.5,) * 3, std=(127.5,) * 3)
    processor.write_text(json.dumps({"do_normalize": False}))
    assert read_folder(tmp_path).pixels == Pixels(mean=(0.0,) * 3, std=(255.0,) * 3)
    for damaged in ("{", json.dumps({"image_mean": ["a"] * 3, "image_std": [1, 1]})):
        processor.write_text(damaged)
        with pytest.raises(WeightsError, match=r"preprocessor_config\.json"):
            read_folder(tmp_path)
