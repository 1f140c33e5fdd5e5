"""Files of named tensors that prove what they hold: safetensors, byte-stable, with digests. No torch.

The safetensors library writes metadata in random order, so it makes another file of the same tensors each time. The
format is eight bytes with the length of a JSON object, that object, and the tensors' bytes one after another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .files import whole_file

# Among the metadata: what was written, for whoever reads it.
TENSOR_DIGEST, TEXT_DIGEST = "tensor_digest", "text_digest"
_METADATA = "__metadata__"
_ALIGNMENT = 8
_SIZES = {
    "F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip


class RawTensor(NamedTuple):
    """A dense tensor: ``dtype`` as safetensors names it (``F32``), and ``data`` in row-major, little-endian order."""

    dtype: str
    shape: tuple[int, ...]
    data: memoryview


def digest_of_tensors(tensors: Mapping[str, RawTensor]) -> str:
    """sha256, in hexadecimal, over names, types, shapes and bytes of ``tensors``, whatever their order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, tensor.dtype, list(tensor.shape)]).encode() + b"\n")
        digest.update(tensor.data)
    return digest.hexdigest()


def digest_of_texts(texts: Mapping[str, str]) -> str:
    """sha256, in hexadecimal, over ``texts``, except for their own digest."""
    rest = {name: text for name, text in texts.items() if name != TEXT_DIGEST}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def write_tensors(path: Path, tensors: Mapping[str, RawTensor], texts: Mapping[str, str]) -> None:
    """Write a safetensors file, whole or not at all: the same bytes for the same ``tensors`` and ``texts``.

    Raises OSError.
    """
    header: dict[str, object] = {_METADATA: dict(sorted(texts.items()))}
    # the widest first, so that each begins at a multiple of its width
    names = sorted(tensors, key=lambda name: (-_SIZES[tensors[name].dtype], name))
    end = 0
    for name in names:
        dtype, shape, data = tensors[name]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + data.nbytes]}
        end += data.nbytes
    content = json.dumps(header, separators=(",", ":")).encode()
    content += b" " * (-len(content) % _ALIGNMENT)
    with whole_file(path) as file:
        file.write(len(content).to_bytes(8, "little") + content)
        for name in names:
            file.write(tensors[name].data)


def damage_of(path: Path) -> str | None:
    """Damage to a file that ``write_tensors`` wrote with digests, in words; None where they hold.

    Also None for a file without digests: one of an earlier version, or of others. Raises OSError.
    """
    content = memoryview(path.read_bytes())
    try:
        start = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(bytes(content[8:start]))
        texts = header.pop(_METADATA, {})
        tensors = {name: _raw(entry, content[start:]) for name, entry in header.items()}
        return text_damage(texts) or tensor_damage(texts, tensors)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"is cut short or no safetensors file ({error})"


def text_damage(texts: Mapping[str, str]) -> str | None:
    """Damage to ``texts`` by the digest among them, in words; None where it holds, or is not there."""
    # the two are written together
    if not {TENSOR_DIGEST, TEXT_DIGEST} & texts.keys() or texts.get(TEXT_DIGEST) == digest_of_texts(texts):
        return None
    return "is damaged: the texts in it are not those that were written"


def tensor_damage(texts: Mapping[str, str], tensors: Mapping[str, RawTensor]) -> str | None:
    """Damage to ``tensors`` by the digest among ``texts``, as ``text_damage``."""
    if texts.get(TENSOR_DIGEST) in (None, digest_of_tensors(tensors)):
        return None
    return "is damaged: the tensors in it are not those that were written"


def _raw(entry: Mapping[str, Any], data: memoryview) -> RawTensor:
    start, end = entry["data_offsets"]
    if not 0 <= start <= end <= len(data):
        raise ValueError("its tensors go beyond its end")
    return RawTensor(entry["dtype"], tuple(entry["shape"]), data[start:end])
