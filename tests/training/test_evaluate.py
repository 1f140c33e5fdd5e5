"""Scores are averaged over views, every video counts once, a broken one counts as wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, top_k_accuracy_score
from torch import Tensor, nn

from vswin.config import Precision
from vswin.data.batch import ViewBatch
from vswin.data.transforms import normalise
from vswin.models import create_model
from vswin.training.evaluate import Predictions, evaluate
from vswin.training.memory import BatchTooLargeError

CPU = torch.device("cpu")


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return create_model("swin_t", num_classes=3, embed_dim=8, depths=(2,), num_heads=(2,), window=(2, 4, 4)).eval()


def batch(rows: slice, *, broken: tuple[int, ...] = ()) -> ViewBatch:
    views = torch.randint(256, (5, 3, 4, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    is_broken = torch.zeros(5, dtype=torch.bool)
    is_broken[list(broken)] = True
    return ViewBatch(views[rows], torch.tensor([0, 1, 2, 0, 1])[rows], torch.arange(5)[rows], is_broken[rows])


def test_scores_are_softmax_averaged_over_views_whatever_the_batches_and_chunks() -> None:
    model = small_model()
    whole = batch(slice(None))
    with torch.no_grad():
        expected = torch.stack([model(normalise(video)).softmax(dim=-1).mean(dim=0) for video in whole.views]).numpy()
    for chunk in (1, 2, 6):
        parts = evaluate(
            model, [batch(slice(0, 2)), batch(slice(2, 5))], precision=Precision.FP32, device=CPU, views_at_once=chunk
        )
        predictions = Predictions.joined(parts, num_videos=5)
        np.testing.assert_allclose(predictions.scores, expected, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(predictions.labels, whole.labels.numpy())


def test_a_broken_video_is_wrong_and_stays_in_the_count() -> None:
    [intact] = evaluate(small_model(), [batch(slice(None))], precision=Precision.FP32, device=CPU)
    right = intact.scores.argmax(axis=1) == intact.labels
    [predictions] = evaluate(small_model(), [batch(slice(None), broken=(0, 3))], precision=Precision.FP32, device=CPU)
    np.testing.assert_array_equal(predictions.broken, [True, False, False, True, False])
    assert (predictions.scores[[0, 3]] == 0).all()
    assert predictions.top(1) == pytest.approx(100 * right[[1, 2, 4]].sum() / 5)
    # every answer is among the first three of three classes, but for a broken video
    assert predictions.top(3) == pytest.approx(60)
    assert predictions.confusion().sum() == 3
    assert predictions.class_accuracy()[0] == 0


@pytest.mark.parametrize(
    ("views_at_once", "advice"),
    [(6, "6 views at once; use views_at_once=3, which"), (1, "1 views at once; this device is too small")],
)
def test_out_of_memory_names_how_many_views_to_try(views_at_once: int, advice: str) -> None:
    class Greedy(nn.Module):
        def forward(self, views: Tensor) -> Tensor:
            return torch.empty(2**60)

    with pytest.raises(BatchTooLargeError, match=f"out of memory with {advice}"):
        list(
            evaluate(Greedy(), [batch(slice(None))], precision=Precision.FP32, device=CPU, views_at_once=views_at_once)
        )


@pytest.mark.parametrize("bad", [0, slice(None)], ids=["own score", "every score"])
def test_scores_that_are_not_numbers_are_wrong(bad: int | slice) -> None:
    scores = np.full((1, 6), 0.1, dtype=np.float32)
    scores[0, 0] = 0.5
    predictions = Predictions(np.array([0]), scores, np.array([0]), np.array([False]))
    assert (predictions.top(1), predictions.top(5)) == (100, 100)
    scores[0, bad] = np.nan
    assert (predictions.top(1), predictions.top(5), predictions.mean_class_accuracy()) == (0, 0, 0)


def test_parts_of_several_processes_join_in_the_order_of_the_list() -> None:
    model = small_model()
    [whole] = evaluate(model, [batch(slice(None))], precision=Precision.FP32, device=CPU)
    parts = [
        part
        for rank in range(2)
        for part in evaluate(model, [batch(slice(rank, None, 2))], precision=Precision.FP32, device=CPU)
    ]
    joined = Predictions.joined(reversed(parts), num_videos=5)
    np.testing.assert_array_equal(joined.videos, range(5))
    np.testing.assert_allclose(joined.scores, whole.scores, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="2 not at all and 0 more than once"):
        Predictions.joined(parts[:1], num_videos=5)
    with pytest.raises(ValueError, match="0 not at all and 3 more than once"):
        Predictions.joined([*parts, parts[0]], num_videos=5)


def predictions_of(scores: np.ndarray, labels: np.ndarray) -> Predictions:
    return Predictions(np.arange(len(labels)), scores, labels, np.zeros(len(labels), dtype=bool))


def test_top_k_counts_ties_as_wrong() -> None:
    scores = np.array([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.4, 0.4, 0.2], [1 / 3, 1 / 3, 1 / 3]], dtype=np.float32)
    predictions = predictions_of(scores, np.array([0, 0, 1, 2]))
    assert predictions.top(1) == 25.0
    assert predictions.top(2) == 50.0
    assert predictions.top(3) == 100.0
    np.testing.assert_array_equal(predictions.confusion(), [[1, 1, 0], [1, 0, 0], [1, 0, 0]])
    assert np.trace(predictions.confusion()) == 1


def test_metrics_agree_with_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(7, size=500)
    scores = generator.dirichlet(np.ones(7), size=500).astype(np.float32)
    predictions = predictions_of(scores, labels)
    for k in (1, 3, 5):
        assert predictions.top(k) == pytest.approx(100 * top_k_accuracy_score(labels, scores, k=k))
    best = scores.argmax(axis=1)
    np.testing.assert_array_equal(predictions.confusion(), confusion_matrix(labels, best))
    assert predictions.mean_class_accuracy() == pytest.approx(100 * balanced_accuracy_score(labels, best))


def test_a_class_without_videos_has_no_accuracy() -> None:
    predictions = predictions_of(np.eye(3, dtype=np.float32)[[0, 0, 1]], np.array([0, 0, 0]))
    np.testing.assert_allclose(predictions.class_accuracy(), [200 / 3, np.nan, np.nan])
    assert predictions.mean_class_accuracy() == pytest.approx(200 / 3)
