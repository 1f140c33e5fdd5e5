"""Commands for videos of one's own: predict, features, evaluate."""

from __future__ import annotations

import io
import json
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from ..registry.catalogue import find_variant
from ..registry.of_weights import InferenceError, Ready, Said, describe, make_ready
from ..registry.recipe import Scale
from ..runs.runtime import default_runtime
from ..words import relative
from .display import fail, messages, print_json
from .options import JsonOption, ScaleOption, VariantArgument, ViewsOption, WorkersOption

if TYPE_CHECKING:
    from vswin.inference import VideoOutput, Viewing


_BEST = 5

VideosArgument = Annotated[
    list[Path], typer.Argument(metavar="VIDEO...", help="Files, folders of videos, or folders of frames.")
]
CheckpointOption = Annotated[
    Path, typer.Option(metavar="FILE", help="Published weights, a run's weights.safetensors, or a run's directory.")
]
ModelOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="A model (swin_t) or a variant (table4/split), where the file does not say."),
]
ShownOption = Annotated[
    str | None, typer.Option("--views", metavar="TIMExSPACE", help="Views per video; default: as its row, or 4x3.")
]
ClipOption = Annotated[
    str | None, typer.Option(metavar="FRAMESxINTERVAL", help="Frames of a view; default: as its row, or 32x2.")
]
WindowOption = Annotated[
    str | None, typer.Option(metavar="TxHxW", help="Window in tokens, where the file fits several: 8x7x7.")
]
MeanOption = Annotated[
    str | None, typer.Option(metavar="M[,M,M]", help="Mean of pixels, from 0 to 1 or to 255; default: as the file's.")
]
StdOption = Annotated[str | None, typer.Option(metavar="S[,S,S]", help="Standard deviation of pixels, like --mean.")]
BgrOption = Annotated[bool, typer.Option("--bgr", help="Colours in OpenCV's order: blue first.")]
WeightsOption = Annotated[str, typer.Option(metavar="averaged|raw", help="Which weights, where the file has both.")]
ViewsAtOnceOption = Annotated[
    int,
    typer.Option("--views-at-once", min=1, metavar="VIEWS", help="Views in memory at once; fewer where it is short."),
]
DecodersOption = Annotated[
    int | None,
    typer.Option("--workers", min=0, help="Processes that decode; default: up to 8 beside a GPU, none without."),
]


def predict(
    videos: VideosArgument,
    checkpoint: CheckpointOption,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Class names, one per line, where the checkpoint has none.")
    ] = None,
    model: ModelOption = None,
    views: ShownOption = None,
    clip: ClipOption = None,
    window: WindowOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    bgr: BgrOption = False,
    weights: WeightsOption = "averaged",
    views_at_once: ViewsAtOnceOption = 12,
    workers: DecodersOption = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the predictions there as JSON.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Classify videos: the five classes with the highest scores, in percent.

    A video that cannot be read is named and does not stop the rest; exit code 1 if there is one.
    """
    from vswin.inference import predict as predict_videos

    console = messages(as_json)
    _writable(out, option="--out")
    said = Said(
        model=model,
        labels=labels,
        views=views,
        clip=clip,
        window=window,
        mean=mean,
        std=std,
        bgr=bgr,
        weights=weights,
    )
    ready = _ready(console, checkpoint, said)
    found = _found(videos)
    content = []
    for answer in predict_videos(ready.model, found, _viewing(ready, found, views_at_once, workers)):
        content.append(_prediction_json(answer, ready.classes))
        _show_prediction(console, content[-1])
    if out is not None:
        out.write_text(json.dumps(content, indent=2) + "\n")
        console.print(f"written to {relative(out.absolute())}", soft_wrap=True, markup=False)
    if as_json:
        print_json(content)
    _end(console, sum("error" in item for item in content), len(content))


def features(
    videos: VideosArgument,
    checkpoint: CheckpointOption,
    out: Annotated[Path, typer.Option(metavar="FILE.npz", help="Where to write them.")],
    model: ModelOption = None,
    views: ShownOption = None,
    clip: ClipOption = None,
    window: WindowOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    bgr: BgrOption = False,
    weights: WeightsOption = "averaged",
    views_at_once: ViewsAtOnceOption = 12,
    workers: DecodersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Extract the features that a model's head sees, averaged over views: one row per video, as npz.

    Its arrays: features, float32 [videos, C]; videos, the paths of the rows. A video that cannot be read is named and
    has no row; exit code 1 if there is one.
    """
    import numpy as np

    from vswin.inference import features as features_of

    console = messages(as_json)
    _writable(out, option="--out")
    said = Said(
        model=model,
        views=views,
        clip=clip,
        window=window,
        mean=mean,
        std=std,
        bgr=bgr,
        weights=weights,
        head=False,
    )
    ready = _ready(console, checkpoint, said)
    found = _found(videos)
    names, rows, broken = [], [], []
    for answer in features_of(ready.model, found, _viewing(ready, found, views_at_once, workers)):
        if answer.values is None:
            broken.append(str(answer.video))
            _say_broken(console, answer.error)
        else:
            names.append(str(answer.video))
            rows.append(answer.values)
    if rows:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, features=np.stack(rows), videos=np.array(names))
        out.write_bytes(buffer.getvalue())
        console.print(
            f"{len(rows)} rows of {len(rows[0])} features in {relative(out.absolute())}",
            soft_wrap=True,
            markup=False,
        )
    if as_json:
        print_json({"file": str(out) if rows else None, "videos": names, "broken": broken})
    _end(console, len(broken), len(found))


def evaluate(
    variant: VariantArgument,
    checkpoint: Annotated[Path, typer.Option(metavar="FILE", help="Weights of any format that vswin reads.")],
    scale: ScaleOption = Scale.PAPER,
    workers: WorkersOption = None,
    views_at_once: ViewsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Test published weights under a variant's protocol, on your videos; leaves a record of its own kind.

    Interrupted, the same command resumes. Under torchrun or srun its processes share out the videos.
    """
    from vswin.training.distributed import World

    from ..job.published import evaluate_published
    from ..results.record import dump
    from .display.runs import result
    from .progress import testing

    console = messages(as_json)
    found = find_variant(variant)
    runtime = default_runtime(scale, workers=workers, views_at_once=views_at_once)
    # it names files, which are no markup
    report = partial(console.print, markup=False)
    with testing(console if World.from_environment().is_first else Console(quiet=True), variant) as advance:
        record = evaluate_published(
            found, scale=scale, checkpoint=checkpoint, runtime=runtime, report=report, on_videos=advance
        )
    if record is None:
        return
    console.print(f"{variant}, published weights: {result(record)}")
    if as_json:
        print_json(json.loads(dump(record)))


def _ready(console: Console, checkpoint: Path, said: Said) -> Ready:
    if said.weights not in ("averaged", "raw"):
        fail(f"expected --weights averaged or raw, got {said.weights!r}", code=2)
    try:
        ready = make_ready(checkpoint, said)
    except InferenceError as error:
        fail(str(error), code=2)
    console.print(f"{ready.origin}: {describe(ready.clip, ready.protocol)}", markup=False, soft_wrap=True)
    for note in ready.notes:
        console.print(note, markup=False, soft_wrap=True)
    return ready


def _found(videos: list[Path]) -> list[Path]:
    from vswin.inference import find_videos

    return find_videos(videos)


def _viewing(ready: Ready, videos: list[Path], views_at_once: int, workers: int | None) -> Viewing:
    import torch

    from vswin.inference import Viewing

    if workers is None:
        cores = len(os.sched_getaffinity(0))
        workers = min(8, cores, len(videos)) if torch.cuda.is_available() and len(videos) > 1 else 0
    return Viewing(
        clip=ready.clip,
        protocol=ready.protocol,
        pixels=ready.pixels,
        views_at_once=views_at_once,
        workers=workers,
    )


def _prediction_json(answer: VideoOutput, classes: tuple[str, ...]) -> dict[str, Any]:
    if answer.values is None:
        return {"video": str(answer.video), "error": answer.error}
    # the first of equal scores first
    best = (-answer.values).argsort(kind="stable")[:_BEST].tolist()
    return {
        "video": str(answer.video),
        "predictions": [
            {"class": classes[index], "index": index, "score": float(answer.values[index])} for index in best
        ],
    }


def _show_prediction(console: Console, content: dict[str, Any]) -> None:
    if "error" in content:
        _say_broken(console, content["error"])
        return
    console.print(f"[bold]{escape(content['video'])}[/]", soft_wrap=True)
    for item in content["predictions"]:
        console.print(f"  {100 * item['score']:5.1f}  {escape(item['class'])}", soft_wrap=True)


def _say_broken(console: Console, error: str) -> None:
    console.print(f"[red]broken[/]  {escape(error)}", soft_wrap=True)


def _writable(path: Path | None, *, option: str) -> None:
    """See now, and not after hours, that a file can be written."""
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        fail(f"expected {option} FILE in a folder that exists, got {path}", code=2)


def _end(console: Console, broken: int, total: int) -> None:
    if broken:
        console.print(f"{broken} of {total} videos could not be read", markup=False)
        raise typer.Exit(1)
