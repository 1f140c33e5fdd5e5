"""Weights from the files of six writers, from damaged files, and into our own."""

from __future__ import annotations

import os
import pickle
import random
import re
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.support.toy_models import TOYS
from vswin.models import (
    DamagedWeightsError,
    SwinTransformer3D,
    create_model,
    inflate,
    load_checkpoint,
    load_state,
    read_checkpoint,
    read_classes,
    read_metadata,
    save_weights,
    tensor_digest,
)
from vswin.models.weights import formats, inert
from vswin.models.weights.digest import raw_tensors
from vswin.models.weights.inert import Inert, read_inertly
from vswin.tensor_files import damage_of, write_tensors

SWIN = {"embed_dim": 8, "depths": (2, 1), "num_heads": (1, 2), "window": (2, 4, 4)}


def video_model(*, seed: int = 0, num_classes: int = 5, **overrides: Any) -> nn.Module:
    torch.manual_seed(seed)
    return create_model("swin_t", num_classes=num_classes, **(SWIN | overrides))


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def saved(content: Any, folder: Path) -> Path:
    path = folder / "checkpoint.pth"
    torch.save(content, path)
    return path


# -- our own files


@pytest.mark.parametrize("name", TOYS)
def test_what_is_saved_loads_again(name: str, tmp_path: Path) -> None:
    model = TOYS[name].model()
    save_weights(model, tmp_path / "model.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    torch.manual_seed(9)
    fresh = create_model(TOYS[name].name, num_classes=5, **TOYS[name].overrides)
    assert not same(weights(fresh), weights(model))
    report = load_checkpoint(fresh, tmp_path / "model.safetensors")
    assert same(weights(fresh), weights(model))
    assert set(report.loaded) == {name for name, _ in model.named_parameters()}
    assert (report.random, report.unused) == ((), ())


def test_a_colleague_can_read_what_is_saved(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save_weights(video_model(), tmp_path / "model.safetensors")
    finally:
        os.umask(before)
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == 0o640


def test_class_names_travel_with_the_weights(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(video_model(), path, classes=["drinking, beer", "smörgås", "c", "d", "e"])
    assert read_classes(path) == ("drinking, beer", "smörgås", "c", "d", "e")
    save_weights(video_model(), path)
    assert read_classes(path) == ()
    assert read_classes(saved({"state_dict": {}}, tmp_path)) == ()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        read_classes(path)
    with pytest.raises(FileNotFoundError):
        read_classes(tmp_path / "none.pth")


def test_equal_weights_make_equal_files(tmp_path: Path) -> None:
    files = set()
    for number in range(8):
        path = tmp_path / f"{number}.safetensors"
        save_weights(video_model(), path, classes=["a", "b", "c", "d", "e"], metadata={"recipe": "{}", "note": "x"})
        files.add(path.read_bytes())
    assert len(files) == 1


def test_the_library_reads_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(video_model(), path, metadata={"note": "smörgås"})
    assert same(load_file(path), weights(video_model()))
    kinds = {
        name: torch.arange(6).to(dtype).reshape(2, 3)
        for name, dtype in (("b", torch.bool), ("h", torch.bfloat16), ("i", torch.int64), ("u", torch.uint8))
    }
    kinds |= {"nothing": torch.empty(0, 3), "one": torch.tensor(2.5), "turned": torch.arange(6.0).reshape(2, 3).T}
    write_tensors(path, raw_tensors(kinds), {"name": '"quoted"\n'})
    assert same(load_file(path), kinds)
    assert read_metadata(path) == {"name": '"quoted"\n'}


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(video_model(), path)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_weights(video_model(), path, metadata={"note": object()})  # type: ignore[dict-item]
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_every_flipped_byte_of_our_own_files_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(video_model(), path, classes=["a", "b", "c", "d", "e"], metadata={"recipe": "{}"})
    content = path.read_bytes()
    generator = random.Random(1)
    header = 8 + int.from_bytes(content[:8], "little")
    padding = len(content[:header]) - len(content[:header].rstrip(b" "))
    for number in range(300):
        place = generator.randrange(header - padding) if number % 3 else generator.randrange(header, len(content))
        damaged = bytearray(content)
        damaged[place] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(DamagedWeightsError, match=re.escape(str(path))):
            read_checkpoint(path)
        assert damage_of(path) is not None


def test_files_without_digests_are_read(tmp_path: Path) -> None:
    path = tmp_path / "earlier.safetensors"
    save_file(video_model().state_dict(), path, metadata={"format": "pt", "classes": '["a"]'})
    assert same(read_checkpoint(path), weights(video_model()))
    assert read_classes(path) == ("a",)
    assert damage_of(path) is None


def test_weights_are_identified_by_their_tensors(tmp_path: Path) -> None:
    state = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.int64)}
    found = tensor_digest(state)
    assert found == tensor_digest(dict(reversed(state.items())))
    assert found == tensor_digest({**state, "a": state["a"].T.contiguous().T})
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "a.pth")
    save_file(state, tmp_path / "b.safetensors", metadata={"note": "x"})
    assert {tensor_digest(read_checkpoint(path)) for path in tmp_path.iterdir()} == {found}
    others = [
        {**state, "a": state["a"].reshape(3, 2)},
        {**state, "a": state["a"].view(torch.int32)},
        {**state, "a": state["a"] + torch.eye(2, 3) * 1e-6},
        {"c": state["a"], "b": state["b"]},
        {"a": state["a"]},
    ]
    assert len({found, *map(tensor_digest, others)}) == 6


def test_what_has_no_bytes_has_no_identity() -> None:
    vast = torch.zeros(1).expand(2**40)
    for value in (vast, torch.eye(2).to_sparse(), torch.empty(2, device="meta"), torch.zeros(2, dtype=torch.complex64)):
        with pytest.raises(ValueError, match=r"expected .*, got weight"):
            tensor_digest({"weight": value})


# -- foreign files


def test_published_video_swin(tmp_path: Path) -> None:
    source, model = video_model(seed=1), video_model()
    report = load_checkpoint(model, saved({"meta": {"epoch": 30}, "state_dict": source.state_dict()}, tmp_path))
    assert report.format is formats.VIDEO_SWIN
    assert same(weights(model), weights(source))


def test_published_video_swin_into_a_bare_backbone(tmp_path: Path) -> None:
    source = video_model(seed=1)
    model = SwinTransformer3D(
        patch_size=(2, 4, 4), embed_dim=8, depths=(2, 1), num_heads=(1, 2), window_size=(2, 4, 4), patch_norm=True
    )
    report = load_checkpoint(model, saved({"state_dict": source.state_dict()}, tmp_path))
    assert same(weights(model), weights(source.get_submodule("backbone")))
    assert set(report.unused) == {"cls_head.fc_cls.weight", "cls_head.fc_cls.bias"}


def test_a_bare_backbone_into_a_classifier(tmp_path: Path) -> None:
    source, model = video_model(seed=1), video_model()
    path = saved(source.get_submodule("backbone").state_dict(), tmp_path)
    with pytest.raises(ValueError, match=r"2 tensors missing \(cls_head.*head='keep'"):
        load_checkpoint(model, path)
    report = load_checkpoint(model, path, head="keep")
    assert set(report.random) == {"cls_head.fc_cls.weight", "cls_head.fc_cls.bias"}
    assert same(weights(model.get_submodule("backbone")), weights(source.get_submodule("backbone")))


def test_mmaction2(tmp_path: Path) -> None:
    source, model = video_model(seed=1), video_model()
    state = OrderedDict(
        (name.replace("backbone.norm.", "backbone.norm3."), value) for name, value in source.state_dict().items()
    )
    state["data_preprocessor.mean"] = torch.zeros(3, 1, 1, 1)
    report = load_checkpoint(model, saved({"state_dict": state, "message_hub": Hub(), "meta": {}}, tmp_path))
    assert report.format is formats.MMACTION
    assert same(weights(model), weights(source))


def test_torchvision_names() -> None:
    """Renamed by hand here; the real module is compared in models/test_torchvision.py."""
    source, model = video_model(seed=1), video_model()
    state = {}
    for name, value in source.state_dict().items():
        name = name.removeprefix("backbone.")
        for stage in range(2):
            name = name.replace(f"layers.{stage}.blocks.", f"features.{2 * stage}.")
            name = name.replace(f"layers.{stage}.downsample.", f"features.{2 * stage + 1}.")
        name = name.replace("mlp.fc1", "mlp.0").replace("mlp.fc2", "mlp.3").replace("cls_head.fc_cls", "head")
        state[name] = value
    report = load_state(model, state)
    assert report.format is formats.TORCHVISION
    assert same(weights(model), weights(source))


def test_published_swin_for_images(tmp_path: Path) -> None:
    torch.manual_seed(1)
    source = create_model("swin2d_t", num_classes=7, **(SWIN | {"window": 4}))
    state = source.state_dict() | {"layers.0.blocks.1.attn_mask": torch.zeros(4, 16, 16)}
    model = create_model("swin2d_t", num_classes=7, **(SWIN | {"window": 4}))
    report = load_checkpoint(model, saved({"model": state}, tmp_path))
    assert report.format is formats.IMAGE_SWIN
    assert same(weights(model), weights(source))


def test_published_timesformer(tmp_path: Path) -> None:
    source, model = TOYS["timesformer_divided"].model(), TOYS["timesformer_divided"].model()
    nn.init.zeros_(model.get_parameter("cls_token"))
    state = {f"model.{name}": value for name, value in source.state_dict().items()}
    report = load_checkpoint(model, saved({"model_state": state, "epoch": 3}, tmp_path))
    assert report.format is formats.TIMESFORMER
    assert same(weights(model), weights(source))


def test_data_parallel_prefixes_are_dropped() -> None:
    source, model = video_model(seed=1), video_model()
    load_state(model, {f"module.{name}": value for name, value in source.state_dict().items()})
    assert same(weights(model), weights(source))


def test_index_buffers_are_compared_but_not_needed() -> None:
    source, model = video_model(seed=1), video_model()
    state = {name: value for name, value in source.state_dict().items() if not name.endswith("_index")}
    load_state(model, state)
    assert same(weights(model), weights(source))
    state["backbone.layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(32, 32, dtype=torch.int64)
    with pytest.raises(ValueError, match="looks its biases up in another order"):
        load_state(model, state)


# -- files with more than tensors in them


class Hub:
    """Stands for mmengine's message hub: an object that a reader must not revive."""

    def __init__(self) -> None:
        self.history = [1, 2, 3]
        self.table = {"loss": Buffer(0.5)}


class Buffer(list[float]):
    def __init__(self, value: float) -> None:
        super().__init__([value])


class Trap:
    """Leaves a file behind if it is ever unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_objects_besides_tensors_are_neither_imported_nor_called(tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    source = video_model(seed=1)
    content = {
        "state_dict": source.state_dict(),
        "hub": Hub(),
        "trap": Trap(trap),
        "param": nn.Parameter(torch.ones(2)),
    }
    path = saved(content, tmp_path)
    read, _ = read_inertly(path)
    assert same(dict(read["state_dict"]), weights(source))
    assert torch.equal(read["param"], torch.ones(2))
    assert isinstance(read["hub"], Inert)
    assert isinstance(read["trap"], Inert)
    assert same(read_checkpoint(path), weights(source))
    assert not trap.exists()


def test_modules_named_in_a_file_are_not_imported(tmp_path: Path) -> None:
    module = tmp_path / "treacherous.py"
    module.write_text("raise SystemExit('imported')\n\nclass Config: ...\n")
    path = tmp_path / "checkpoint.pth"
    # Written where the module exists, read where importing it would end the process.
    script = (
        "import sys, types, torch\n"
        "module = types.ModuleType('treacherous')\n"
        "class Config: pass\n"
        "Config.__module__ = 'treacherous'; Config.__qualname__ = 'Config'; module.Config = Config\n"
        "sys.modules['treacherous'] = module\n"
        f"torch.save({{'state_dict': {{'weight': torch.arange(3.)}}, 'config': Config()}}, {str(path)!r})\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    sys.path.insert(0, str(tmp_path))
    try:
        assert read_checkpoint(path)["weight"].tolist() == [0, 1, 2]
    finally:
        sys.path.remove(str(tmp_path))
    assert "treacherous" not in sys.modules


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(24.0).reshape(4, 6),
        torch.arange(24.0).reshape(4, 6).t(),
        torch.arange(24)[3:9:2],
        torch.tensor(3.5, dtype=torch.float64),
        torch.zeros(0, 3),
        torch.ones(3, dtype=torch.bfloat16),
        torch.ones(3, dtype=torch.half),
        torch.tensor([True, False]),
    ],
    ids=lambda tensor: f"{tensor.dtype}-{tuple(tensor.shape)}",
)
def test_the_inert_reader_reads_tensors_as_torch_does(tensor: Tensor, tmp_path: Path) -> None:
    read, _ = read_inertly(saved({"tensor": tensor, "again": tensor}, tmp_path))
    assert read["tensor"].dtype is tensor.dtype
    assert torch.equal(read["tensor"], tensor)
    assert torch.equal(read["again"], tensor)


# -- files that must be refused


def written(kind: str, folder: Path) -> Path:
    """A small checkpoint of each kind of file."""
    state = video_model().state_dict()
    path = folder / f"checkpoint.{'safetensors' if kind == 'safetensors' else 'pth'}"
    match kind:
        case "safetensors":
            save_weights(video_model(), path)
        case "zip":
            torch.save({"state_dict": state}, path)
        case "zip with objects":
            torch.save({"state_dict": state, "hub": Hub()}, path)
        case "legacy":
            torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=False)
    return path


KINDS = ["safetensors", "zip", "zip with objects", "legacy"]


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_files(kind: str, tmp_path: Path) -> None:
    path = written(kind, tmp_path)
    assert same(read_checkpoint(path), weights(video_model()))
    content = path.read_bytes()
    for size in {0, 1, 9, *range(20, len(content), len(content) // 40), len(content) - 1}:
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=rf"{path.name} is .*download it again"):
            read_checkpoint(path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")  # what torch and zipfile say of damage
def test_flipped_bytes_are_a_value_error_or_other_weights(kind: str, tmp_path: Path) -> None:
    path = written(kind, tmp_path)
    content = path.read_bytes()
    generator = random.Random(0)
    refused = 0
    for number in range(200):
        damaged = bytearray(content)
        # Half of them where the names and sizes stand: at the start or, in a zip file, at the end.
        place = generator.randrange(1000) if number % 2 else generator.randrange(len(content))
        damaged[-place if number % 4 == 1 else place] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        with suppress(ValueError):
            read_checkpoint(path)
            continue
        with pytest.raises(ValueError, match=re.escape(str(path))):
            read_checkpoint(path)
        refused += 1
    assert refused > 5


def zipped(data: bytes, folder: Path, *, storage: bytes = b"", compression: int = zipfile.ZIP_STORED) -> Path:
    """A file as torch.save writes it, with a pickle of one's own."""
    path = folder / "checkpoint.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/data/0", storage, compress_type=compression)
    return path


def tensor_pickle(numel: int) -> bytes:
    """``{"weight": tensor}`` over storage 0, of which the first ``numel`` numbers."""
    storage = b"((Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI%d\ntQ" % numel
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage.replace(b"((", b"(") + b"I0\n(I%d\nt(I1\ntI00\nNtR"
    return b"\x80\x02(Vweight\n" + rebuild % numel + b"d."


def test_an_archive_of_little_that_inflates_to_much_is_refused_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = 2**26
    path = zipped(tensor_pickle(numbers), tmp_path, storage=bytes(4 * numbers), compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**20
    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(
        ValueError, match=r"\(it would inflate from \d{3},\d{3} to 268,435,\d+ bytes\); download it again"
    ):
        read_checkpoint(path)


def test_an_archive_that_was_compressed_after_all_is_read(tmp_path: Path) -> None:
    path = written("zip", tmp_path)
    packed = tmp_path / "packed.pth"
    with zipfile.ZipFile(path) as plain, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in plain.namelist():
            archive.writestr(member, plain.read(member))
    assert same(read_checkpoint(packed), weights(video_model()))


def test_the_inert_reader_reads_a_pickle_by_hand(tmp_path: Path) -> None:
    read, _ = read_inertly(zipped(tensor_pickle(2), tmp_path, storage=bytes(8)))
    assert read["weight"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("data", "compression", "message"),
    [
        (b"\x80\x02}r\x00\x00\x00\x10.", zipfile.ZIP_STORED, "expected memo entries up to"),
        (tensor_pickle(2), zipfile.ZIP_DEFLATED, "got it compressed"),
        (tensor_pickle(3), zipfile.ZIP_STORED, "got 8 bytes"),
        (tensor_pickle(-1), zipfile.ZIP_STORED, "got 8 bytes"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v3\n.", zipfile.ZIP_STORED, "_rebuild_tensor_v3.*plain dense"),
    ],
)
def test_files_that_ask_for_too_much(data: bytes, compression: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_inertly(zipped(data, tmp_path, storage=bytes(8), compression=compression))


def test_a_file_cannot_set_attributes_of_this_package(tmp_path: Path) -> None:
    named = b"ctorch._utils\n_rebuild_tensor_v2\n"
    read_inertly(zipped(b"\x80\x02" + named + b"}Vdamage\nI1\nsb.", tmp_path))
    assert not any(hasattr(value, "damage") for value in vars(inert).values())
    with pytest.raises(AttributeError):
        inert._RebuildTensor().damage = 1


def test_parameters_with_attributes_are_read(tmp_path: Path) -> None:
    parameter = nn.Parameter(torch.ones(2))
    parameter.note = "kept aside"  # type: ignore[attr-defined]
    assert torch.equal(read_inertly(saved({"weight": parameter}, tmp_path))[0]["weight"], torch.ones(2))


def test_a_mapping_that_holds_itself(tmp_path: Path) -> None:
    content: dict[str, Any] = {"weight": torch.ones(2)}
    content["state_dict"] = content
    assert list(read_checkpoint(saved(content, tmp_path))) == ["weight"]


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_the_format_is_told_by_content_whatever_the_name(kind: str, tmp_path: Path) -> None:
    path = written(kind, tmp_path)
    renamed = path.rename(tmp_path / ("odd.pth" if kind == "safetensors" else "odd.safetensors"))
    assert same(read_checkpoint(renamed), weights(video_model()))


def test_empty_wrappers_are_passed_over(tmp_path: Path) -> None:
    state = video_model().state_dict()
    assert same(read_checkpoint(saved({"state_dict": {}, "model": state}, tmp_path)), weights(video_model()))


def test_intact_files_that_cannot_be_read_say_what_to_save(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"if it holds a whole model, save the model's state_dict\(\)"):
        read_checkpoint(saved(nn.Linear(2, 2), tmp_path))
    with pytest.raises(ValueError, match=r"got none; its keys are 'epoch'"):
        read_checkpoint(saved({"epoch": 3}, tmp_path))


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html><html>404</html>", pickle.dumps(Hub(), protocol=2)])
def test_files_that_are_no_checkpoints(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cut short or no PyTorch checkpoint"):
        read_checkpoint(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected a checkpoint file, found none at"):
        load_checkpoint(video_model(), tmp_path / "nowhere.pth")


def test_file_without_tensors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected named tensors in checkpoint"):
        read_checkpoint(saved({"epoch": 3}, tmp_path))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"embed_dim": 16}, r"tensors of another size \(backbone.patch_embed.proj.weight is \[8, 3, 2, 4, 4\] where"),
        ({"depths": (2, 2)}, "13 tensors missing .* Build the model with the checkpoint's size"),
        ({"window": (4, 4, 4)}, "Build the model with the checkpoint's window"),
        ({"num_classes": 6}, "Build the model with the checkpoint's num_classes, or keep the model's head"),
        ({"attention": "split"}, "tensors missing"),
    ],
)
def test_checkpoint_of_another_size_loads_nothing(overrides: dict[str, Any], message: str) -> None:
    model = video_model(**overrides)
    before = weights(model)
    with pytest.raises(ValueError, match=message):
        load_state(model, video_model(seed=1).state_dict())
    assert same(before, weights(model))


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.to_sparse(),
        lambda value: value.to("meta"),
        lambda value: value.int(),
        lambda value: value.to(torch.complex64),
    ],
    ids=["sparse", "meta", "int32", "complex64"],
)
def test_weights_that_are_no_dense_numbers_load_nothing(change: Callable[[Tensor], Tensor]) -> None:
    model, state = video_model(), video_model(seed=1).state_dict()
    before = weights(model)
    name = "backbone.norm.weight"
    with pytest.raises(ValueError, match=f"expected dense floating-point weights .*{name}.*; convert it"):
        load_state(model, state | {name: change(state[name])})
    assert same(before, weights(model))


def test_a_model_without_memory_is_refused() -> None:
    with torch.device("meta"):
        model = video_model()
    with pytest.raises(ValueError, match="got one on the meta device"):
        load_state(model, video_model().state_dict())


def test_an_index_buffer_of_another_window_is_refused() -> None:
    """Windows of 2x4 and 11x1 tokens have tables of the same size."""
    model = video_model(window=(1, 2, 4))
    state = video_model(seed=1, window=(1, 2, 4)).state_dict()
    other = video_model(window=(1, 11, 1)).state_dict()
    assert {name for name in state if state[name].shape != other[name].shape} == {
        name for name in state if name.endswith("relative_position_index")
    }
    with pytest.raises(ValueError, match="looks its biases up in another order"):
        load_state(model, other)


def test_an_image_model_under_a_backbone_prefix_is_an_image_model() -> None:
    image = create_model("swin2d_t", **(SWIN | {"window": 4}))
    state = {f"backbone.{name}": value for name, value in image.state_dict().items()}
    with pytest.raises(ValueError, match=r"got published Swin for images.*vswin.inflate"):
        load_state(video_model(), state)
    assert inflate(state, video_model()).format is formats.IMAGE_SWIN


def test_another_number_of_classes_can_keep_the_models_head() -> None:
    source, model = video_model(seed=1), video_model(num_classes=6)
    head = weights(model.get_submodule("cls_head"))
    report = load_state(model, source.state_dict(), head="keep")
    assert same(weights(model.get_submodule("cls_head")), head)
    assert same(weights(model.get_submodule("backbone")), weights(source.get_submodule("backbone")))
    assert set(report.random) == set(report.unused) == {"cls_head.fc_cls.weight", "cls_head.fc_cls.bias"}


def test_image_checkpoint_given_as_video_checkpoint() -> None:
    image = create_model("swin2d_t", **(SWIN | {"window": 4}))
    with pytest.raises(ValueError, match=r"expected Video Swin weights, got published Swin for images.*vswin.inflate"):
        load_state(video_model(), image.state_dict())


def test_vit_given_as_a_divided_timesformer() -> None:
    vit = TOYS["timesformer_space"].model().state_dict()
    with pytest.raises(ValueError, match=r"expected TimeSformer weights, got ViT for images.*vswin.inflate"):
        load_state(TOYS["timesformer_divided"].model(), vit)


def test_weights_of_another_architecture() -> None:
    with pytest.raises(ValueError, match="expected Perceiver weights, got published Video Swin"):
        load_state(TOYS["perceiver"].model(), video_model().state_dict())


def test_foreign_models_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected a model from vswin.create_model, got Linear"):
        load_state(nn.Linear(1, 1), video_model().state_dict())


def test_a_part_of_merged_queries_keys_and_values_that_is_missing_is_named() -> None:
    layer = "swin.encoder.layers.0.blocks.0.attention.self"
    state = {
        "swin.embeddings.patch_embeddings.projection.weight": torch.zeros(8, 3, 4, 4),
        **{f"{layer}.{part}.weight": torch.zeros(8, 8) for part in ("query", "value")},
    }
    with pytest.raises(ValueError, match=r"got no layers.0.blocks.0.attn.k.weight; is the file complete"):
        load_state(video_model(), state)
