"""What a bit-exact resume needs is set on a GPU, and nothing on a CPU."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from tests.support.rank_processes import ended, left, ranks
from vswin.training.determinism import make_deterministic


def settings(kind: str) -> dict[str, object]:
    make_deterministic(torch.device(kind))
    return {
        "algorithms": torch.are_deterministic_algorithms_enabled(),
        "warns": torch.is_deterministic_algorithms_warn_only_enabled(),
        "cudnn": torch.backends.cudnn.deterministic,
        "benchmark": torch.backends.cudnn.benchmark,
        "cublas": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    }


def test_settings_of_a_gpu_and_of_a_cpu(tmp_path: Path) -> None:
    """In processes of their own; whether a GPU then computes the same bits, only a machine with one can tell."""
    answers = {}
    for kind in ("cpu", "cuda"):
        ended(ranks(settings, kind, size=1, folder=tmp_path / kind))
        answers[kind] = left(tmp_path / kind)[0]["value"]
    assert answers == {
        "cpu": {"algorithms": False, "warns": False, "cudnn": False, "benchmark": False, "cublas": None},
        "cuda": {"algorithms": True, "warns": False, "cudnn": True, "benchmark": False, "cublas": ":4096:8"},
    }
