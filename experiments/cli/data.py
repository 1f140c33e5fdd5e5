"""Commands for data sets: layout, check, prepare, split, generate."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table as Grid
from rich.text import Text

from .. import folders
from ..registry.errors import UnknownNameError
from ..words import relative
from .display import console, fail, messages, print_json
from .options import JsonOption

if TYPE_CHECKING:
    from vswin.data.formats.rows import Listing, Split
    from vswin.data.upkeep.check import Report
    from vswin.data.upkeep.prepare import Prepared

data_app = typer.Typer(help="Check, prepare, split and generate data sets.", no_args_is_help=True)

_EXAMPLES = 3
# Videos of a data set of one's own sizes.
_TRAIN, _HELD_OUT = 768, 384
_SECONDS_BETWEEN_LINES = 10.0

DatasetArgument = Annotated[str, typer.Argument(metavar="DATASET", help="Its folder under the data folder.")]
WorkersOption = Annotated[int | None, typer.Option(min=1, help="Processes; default: one per core.")]
SplitOption = Annotated[str | None, typer.Option(metavar="train|val|test", help="Only this split; default: all.")]


@data_app.command("layout")
def data_layout() -> None:
    """Explain the layouts that a data set may have under the data folder, and list those that are there."""
    from vswin.data.formats import layout

    console.print((layout.__doc__ or "").replace("**", "").replace("``", ""), markup=False, soft_wrap=True)
    there = layout.data_sets(folders.data())
    console.print(
        f"$VSWIN_DATA is {folders.data()}: {', '.join(there) or 'no data sets'}", soft_wrap=True, markup=False
    )


@data_app.command("check")
def data_check(
    dataset: DatasetArgument,
    split: SplitOption = None,
    workers: WorkersOption = None,
    min_frames: Annotated[int, typer.Option(min=1, help="Note videos of fewer frames; they are looped.")] = 64,
    timeout: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="A video that takes longer is broken.")
    ] = 120,
    write_lists: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write the good rows there as train.txt, val.txt and classes.txt."),
    ] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all findings there as JSON.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Open every video, decode frames of it, compare labels, find duplicates. Exit code 1 if anything is wrong.

    What a data set may look like: vswin data layout.
    """
    from vswin.data.upkeep.check import check
    from vswin.data.upkeep.check_lists import write_good

    progress = messages(as_json)
    listings = _listings(dataset, split)
    if write_lists is not None:
        _free(write_lists, listings)
    # Now, and not after hours.
    if report is not None and (report.is_dir() or not report.absolute().parent.is_dir()):
        fail(f"expected --report FILE in a folder that exists, got {report}", code=2)
    total = sum(len(listing.rows) for listing in listings.values())
    try:
        with _counting(progress, f"check {dataset}", total=total) as advance:
            found = check(
                listings,
                workers=workers or _cores(),
                min_frames=min_frames,
                seconds=timeout,
                on_videos=advance,
            )
    except KeyboardInterrupt:
        fail("stopped; nothing was written")
    if report is not None:
        report.write_text(json.dumps(found.as_json(), indent=2) + "\n")
    if write_lists is not None:
        write_good(found, write_lists)
    if as_json:
        print_json(found.as_json())
    else:
        _show_report(dataset, found, report)
        if write_lists is not None:
            console.print(f"the good rows are in {relative(write_lists.absolute())}", soft_wrap=True, markup=False)
    if not found.is_good:
        raise typer.Exit(1)


@data_app.command("prepare")
def data_prepare(
    dataset: DatasetArgument,
    to: Annotated[str, typer.Option(metavar="NAME", help="The new data set's folder under the data folder.")],
    short_side: Annotated[int, typer.Option(min=16, metavar="PIXELS", help="Even.")] = 256,
    workers: WorkersOption = None,
    timeout: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="A video that takes longer is broken.")
    ] = 1800,
    as_json: JsonOption = False,
) -> None:
    """Re-encode every video to a short side, as the authors did: H.264, every frame at its time, upright, no sound.

    Interrupted, the same command resumes. Videos that are broken are named, and left out of the new lists. Exit code 1
    if there are any.
    """
    from vswin.data.annotations import VideoList
    from vswin.data.upkeep.prepare import prepare

    progress = messages(as_json)
    if short_side % 2:
        fail(f"expected an even --short-side, got {short_side}", code=2)
    target = folders.data() / to
    if target == folders.data() / dataset or not target.is_relative_to(folders.data()) or ".." in Path(to).parts:
        fail(f"expected --to to name another data set than {dataset}, got {to}", code=2)
    videos = {split: VideoList.of_listing(listing) for split, listing in _listings(dataset, None).items()}
    try:
        with _counting(progress, f"prepare {to}", total=sum(map(len, videos.values()))) as advance:
            done = prepare(
                videos,
                data=folders.data(),
                name=to,
                short_side=short_side,
                workers=workers or _cores(),
                seconds=timeout,
                on_videos=advance,
            )
    except KeyboardInterrupt:
        fail("stopped; finished work is kept, and the same command resumes")
    if as_json:
        print_json(_prepared_json(done))
    else:
        counts = " + ".join(f"{count} {split}" for split, count in done.videos.items())
        told = f"{to}: {counts} videos, {done.new} of them new, in {relative(done.folder)}"
        console.print(told, soft_wrap=True, markup=False)
        _show_broken(done)
    if done.broken:
        raise typer.Exit(1)


@data_app.command("split")
def data_split(
    dataset: DatasetArgument,
    val: Annotated[float, typer.Option(min=0.01, max=0.99, metavar="SHARE", help="Of every class, to test on.")] = 0.2,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other videos to test on.")] = 0,
    group_by: Annotated[
        str | None,
        typer.Option(metavar="REGEX", help="Videos whose paths match it alike stay together: 'person\\d+'."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Share videos in one folder per class, DATASET/<class>/.../<video>, out to training and validation.

    Writes train.txt, val.txt and classes.txt beside the folders; nothing is moved, and what is in no list is named and
    counted. Clips of one recording must stay together, or the test knows what it is tested on: UCF-101's groups are
    recognised, for others say --group-by.
    """
    from vswin.data.upkeep.split import split_classes

    folder = folders.data() / dataset
    done = split_classes(folder, share=val, seed=seed, group_by=group_by)
    if as_json:
        counts = {split.value: count for split, count in done.videos.items()}
        print_json({"folder": str(folder), **counts, "groups": done.groups, "left_out": done.left_out})
        return
    told = " and ".join(f"{count} in {split}.txt" for split, count in done.videos.items())
    classes = len((folder / "classes.txt").read_text().splitlines())
    console.print(f"{dataset}: {classes} classes, {told}, in {relative(folder)}", soft_wrap=True, markup=False)
    if done.groups:
        console.print(f"{done.groups} groups of videos were kept together", markup=False)
    for reason, names in done.left_out.items():
        shown = ", ".join(names[:_EXAMPLES]) + (" ..." if len(names) > _EXAMPLES else "")
        console.print(f"left out: {len(names)} {reason} ({shown})", soft_wrap=True, markup=False)


@data_app.command("generate")
def data_generate(
    dataset: Annotated[
        list[str] | None,
        typer.Argument(metavar="[DATASET]...", help="Such as moving-digits/tiny; default: all that scale mini needs."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Make a data set of your own sizes: moving-digits/NAME.")] = None,
    train: Annotated[int | None, typer.Option(min=6, metavar="N", help="Training videos.")] = None,
    val: Annotated[int | None, typer.Option(min=6, metavar="N", help="Validation and test videos, each.")] = None,
    size: Annotated[int | None, typer.Option(min=16, metavar="PIXELS", help="Height and width, even.")] = None,
    frames: Annotated[int | None, typer.Option(min=6, metavar="N", help="Frames of a video.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other videos.")] = 0,
    workers: WorkersOption = None,
) -> None:
    """Make Moving Digits videos under the data folder. What is there and whole is left alone.

    Interrupted, the same command resumes.
    """
    from vswin.data.drifting_digit import VideoStyle
    from vswin.data.moving_digits import MINI_TASKS, TASKS, Task, generate, is_complete

    tasks = {f"moving-digits/{task.name}": task for task in TASKS}
    own = {"--train": train, "--val": val, "--size": size, "--frames": frames}
    if name is None:
        given = [option for option, value in own.items() if value is not None]
        if given or seed:
            fail(f"expected --name NAME with {', '.join(given or ['--seed'])}, for a data set of its own", code=2)
        for wanted in dataset or []:
            if wanted not in tasks:
                raise UnknownNameError("data set", wanted, tasks)
        todo = [tasks[wanted] for wanted in dataset] if dataset else list(MINI_TASKS)
    else:
        name = name.removeprefix("moving-digits/")
        if dataset or f"moving-digits/{name}" in tasks or not _is_plain(name):
            fail(f"expected --name NAME alone, and a new name of letters, digits, - and _; got {name!r}", code=2)
        usual = VideoStyle()
        try:
            style = VideoStyle.scaled(side=size or usual.side, frames=frames or usual.frames)
        except ValueError as error:
            fail(f"--size or --frames: {error}", code=2)
        held_out = val or _HELD_OUT
        todo = [Task(name=name, train=train or _TRAIN, val=held_out, test=held_out, style=style)]
    for task in todo:
        full = f"moving-digits/{task.name}"
        if not is_complete(folders.data(), task=task, seed=seed):
            try:
                with _counting(console, full, total=sum(task.videos.values())) as advance:
                    generate(folders.data(), task=task, seed=seed, workers=workers or _cores(), on_videos=advance)
            except KeyboardInterrupt:
                fail("stopped; finished work is kept, and the same command resumes")
        where = relative(folders.data() / full)
        told = f"{full}: {task.train} + {task.val} + {task.test} videos in {where}"
        console.print(told, soft_wrap=True, markup=False)


def _listings(dataset: str, split: str | None) -> dict[Split, Listing]:
    """The splits of a data set, or the one asked for, as they are read."""
    from vswin.data.formats.layout import Layout, data_sets
    from vswin.data.formats.rows import Split

    if split is not None and split not in list(Split):
        fail(f"expected --split train, val or test, got {split!r}", code=2)
    there = data_sets(folders.data())
    if dataset not in there and not (folders.data() / dataset).is_dir():
        if not there:
            fail(f"unknown data set {dataset!r}: there is none under {folders.data()}; see: vswin data layout", code=2)
        raise UnknownNameError("data set", dataset, there)
    layout = Layout.of(folders.data() / dataset)
    # a test split may be missing, the others not
    usual = [wanted for wanted in Split if wanted is not Split.TEST or wanted in layout.files]
    return {wanted: layout.read(wanted) for wanted in ([Split(split)] if split else usual)}


def _free(folder: Path, listings: dict[Split, Listing]) -> None:
    """Refuse to write over lists."""
    from vswin.data.formats.list_file import read_classes

    taken = [name for name in (f"{split}.txt" for split in listings) if (folder / name).exists()]
    classes = {listing.classes for listing in listings.values()}
    # the same names may stay: what is written beside them means the same
    if (folder / "classes.txt").exists() and classes != {read_classes(folder)}:
        taken.append("classes.txt")
    if taken:
        fail(f"{folder / taken[0]} is there already, and is not written over; choose another folder", code=2)


def _show_report(dataset: str, report: Report, file: Path | None) -> None:
    """Counts by kind with the first examples, then one line that says it all."""
    for split, videos in report.videos.items():
        classes = f", {len(videos.classes)} classes" if videos.classes else ", no class names"
        console.print(
            f"{dataset} {split}: {len(videos)} videos{classes}, from {relative(videos.source)}",
            soft_wrap=True,
            markup=False,
        )
    console.print(f"{report.frames:,} frames, {report.bytes / 1e9:.3f} GB")
    counts = report.counts()
    if counts:
        grid = Grid(box=None, pad_edge=False)
        grid.add_column("", justify="right")
        grid.add_column("found", overflow="fold")
        grid.add_column("such as", overflow="fold")
        for kind, count in counts.items():
            examples = [finding for finding in report.findings if finding.kind is kind][:_EXAMPLES]
            grid.add_row(
                str(count),
                Text(kind.value, style="red" if kind.is_error else "yellow"),
                Text("\n".join(": ".join(filter(None, (found.name, found.detail))) for found in examples)),
            )
        console.print(grid)
    wrong = sum(count for kind, count in counts.items() if kind.is_error)
    if not wrong:
        console.print("[green]nothing is wrong[/]")
    else:
        more = f"all of it is in {file}" if file else "--report FILE names every one"
        things = "1 thing is wrong" if wrong == 1 else f"{wrong} things are wrong"
        console.print(f"[red]{things}[/]; {escape(more)}", soft_wrap=True)


def _show_broken(done: Prepared) -> None:
    for item in done.broken[:_EXAMPLES]:
        console.print(f"[red]broken[/]  {escape(str(item.source))}: {escape(item.why)}", soft_wrap=True)
    if done.broken:
        listed = relative(done.folder / "broken.txt")
        console.print(
            f"{len(done.broken)} broken videos are not in the new lists; all are named in {listed}",
            soft_wrap=True,
            markup=False,
        )


def _prepared_json(done: Prepared) -> dict[str, object]:
    return {
        "folder": str(done.folder),
        "videos": {split.value: count for split, count in done.videos.items()},
        "new": done.new,
        "broken": [{"split": item.split.value, "source": str(item.source), "why": item.why} for item in done.broken],
    }


@dataclass
class _Lines:
    """Progress where there is no terminal: a line now and then."""

    console: Console
    name: str
    total: int
    done: int = 0
    told: float = 0.0

    def advance(self, more: int) -> None:
        self.done += more
        if time.monotonic() - self.told > _SECONDS_BETWEEN_LINES or self.done == self.total:
            self.told = time.monotonic()
            self.console.print(f"{self.name}: {self.done} of {self.total}", soft_wrap=True, markup=False)


@contextmanager
def _counting(console: Console, name: str, *, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, lines elsewhere; call what it gives with how much more is done."""
    if not console.is_terminal:
        yield _Lines(console, name, total).advance
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task(escape(name), total=total)
        yield lambda more: bars.advance(task, more)


def _is_plain(name: str) -> bool:
    return name.replace("-", "").replace("_", "").isalnum() and not name.startswith("-")


def _cores() -> int:
    return len(os.sched_getaffinity(0))
