"""The command line. Exit codes: 0 done, 1 something failed, 2 bad usage."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from . import display, folders, people_commands
from .data_commands import data_app
from .launch_commands import launch_on_profile, set_aside, show_dry_run
from .operate_commands import add_operate_commands
from .options import (
    CpuOption,
    JsonOption,
    MicroBatchOption,
    OnOption,
    RecomputeOption,
    ScaleOption,
    SeedsOption,
    VariantArgument,
    ViewsOption,
    WorkersOption,
)
from .plan import Action, Mode, Step, is_upstream, plan_now
from .profiles import Profile, find_profile
from .recipe import Scale
from .registry import (
    Experiment,
    NoRecipeError,
    UnknownNameError,
    experiments,
    find_experiment,
    find_variant,
    tables,
    tables_at,
)
from .runs import State, locked
from .runtime import Runtime, default_runtime
from .tables_commands import collect_records, tables_command
from .tracking_commands import mirror_all, report_failures, sync, ui
from .upstream import SEED

app = typer.Typer(
    name="vswin",
    help="Reproducibility and ablation suite for Video Swin Transformer (Liu et al. 2021).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(data_app, name="data")
add_operate_commands(app)
app.command("tables")(tables_command)
app.command()(sync)
app.command()(ui)

console = Console(highlight=False)


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """Every table and its variants."""
    if as_json:
        display.print_json(
            {
                table.id: {
                    "caption": table.caption,
                    "scales": table.scales,
                    "variants": [variant.id for variant in table.variants if variant.recipe],
                    "reported": [variant.id for variant in table.variants if variant.recipe is None],
                }
                for table in tables().values()
            }
        )
    else:
        display.show_tables(console)


@app.command()
def show(
    variant: VariantArgument,
    scale: Annotated[
        Scale | None, typer.Option(help="Size of the experiment; default: mini where the variant has it.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """One variant: the paper's numbers, the difference to the baseline, the whole recipe, how to run it."""
    found = find_variant(variant)
    scale = scale or (Scale.MINI if Scale.MINI in found.scales else Scale.PAPER)
    if as_json:
        display.print_json(display.variant_json(found, scale))
    else:
        display.show_variant(console, found, scale)


@app.command()
def run(
    variant: VariantArgument,
    seed: Annotated[int, typer.Option(min=0, help="Decides weights, order of data and random choices.")] = 0,
    scale: ScaleOption = Scale.MINI,
    workers: WorkersOption = None,
    micro_batch: MicroBatchOption = None,
    views_at_once: ViewsOption = None,
    recompute: RecomputeOption = False,
    cpu: CpuOption = False,
) -> None:
    """Train and test one variant in this process; goes on where an earlier attempt stopped.

    What it starts from is trained before, if that has not been done. Under torchrun or srun its processes share out
    every batch.
    """
    from .collect import records_of
    from .follow import Follower
    from .job import run_one
    from .progress import RunProgress, describe
    from .record import load

    experiment = find_experiment(scale, find_variant(variant))
    runtime = default_runtime(
        scale, workers=workers, micro_batch=micro_batch, views_at_once=views_at_once, recompute=recompute, cpu=cpu
    )
    if is_upstream(experiment) and seed != SEED:
        _fail(f"{variant} has one run, of seed {SEED}, shared by all that starts from it", code=2)
    steps = plan_now([experiment], seeds=[seed], mode=Mode.RETRY)
    if not _is_first_process():
        for step in steps:
            if step.action is not Action.DONE:
                run_one(scale, step.experiment.name, step.run.signature, step.seed, runtime=runtime)
        return
    todo = [step for step in steps if step.action is not Action.DONE]
    for step in todo:
        if step.action in (Action.RUNNING, Action.PENDING):
            _fail(f"{describe(step)} is {step.action}: {step.why}")
    if todo:
        _check_ready(todo)
    for step in todo:
        follower = Follower(scale)
        follower.add(step.run, step.experiment)
        try:
            with RunProgress(console, step) as progress:
                run_one(
                    scale, step.experiment.name, step.run.signature, step.seed, runtime=runtime, on_step=progress.step
                )
        finally:
            _report(follower.finish())
    step = steps[-1]
    for protocol in experiment.protocols:
        result = step.run.result(protocol)
        for path in [result] if result.exists() else records_of(step.run, protocol):
            console.print(f"{describe(step)}: {display.result(load(path))}")
    if step.run.path.exists():
        console.print(f"everything it left: {display.relative(step.run.path)}", soft_wrap=True)
    else:
        recorded = display.relative(folders.records(scale))
        console.print(
            f"its record is in {recorded}, so it is not trained again; with VSWIN_RESULTS=again it is", soft_wrap=True
        )


@app.command()
def launch(
    table: Annotated[list[str], typer.Argument(metavar="TABLE...", help="Such as table4 table6.")],
    scale: ScaleOption = Scale.MINI,
    seeds: SeedsOption = 3,
    on: OnOption = "local",
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at once on this machine; default: its cores.")] = None,
    workers: WorkersOption = None,
    micro_batch: MicroBatchOption = None,
    views_at_once: ViewsOption = None,
    recompute: RecomputeOption = False,
    cpu: CpuOption = False,
    mode: Annotated[
        Mode,
        typer.Option(
            help="What about runs that were tried: cached leaves alone what failed by its own error, retry tries it "
            "again, force does also done ones again (the old are moved aside), read-only starts nothing."
        ),
    ] = Mode.CACHED,
    allow_dirty: Annotated[
        bool, typer.Option("--allow-dirty", help="On a cluster: run uncommitted code, and keep it with every run.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and stop.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run every variant of some tables once per seed. What is done is not done again.

    On this machine (with your working tree) it waits for the runs to end; on a cluster (with a clone of the commit) it
    submits them and returns.
    """
    if as_json:
        # standard output is for the JSON
        console.stderr = True
    chosen = _chosen(scale, table)
    profile = find_profile(on)
    if dry_run:
        steps = _plan(chosen, seeds, mode)
        _show_plan(steps, title="would do", as_json=as_json)
        if not as_json:
            show_dry_run(console, steps, on=on, profile=profile, allow_dirty=allow_dirty)
        return

    from .follow import Follower
    from .launch import launch_local, places
    from .progress import LaunchProgress
    from .slurm_launch import adopt, is_on_cluster

    lock = folders.runs() / scale / ".launch.lock"
    with locked(lock, on_wait=lambda: console.print("waiting for another launch of this scale to end")):
        if adopted := adopt(scale):
            console.print(f"found again what an earlier launch submitted and could not note: {', '.join(adopted)}")
        steps = _plan(chosen, seeds, mode)
        left = [step for step in steps if step.action is Action.FAILED]
        undone = [step for step in steps if step.action is not Action.DONE]
        todo = [step for step in undone if step.action is not Action.FAILED]
        if left or (undone and mode is Mode.READ_ONLY):
            display.show_plan(console, undone if mode is Mode.READ_ONLY else left, title="not done, and left alone")
        if not todo or mode is Mode.READ_ONLY:
            if not undone:
                console.print(f"nothing to do: all {len(steps)} runs are done")
            if as_json:
                display.print_json([display.step_json(step) for step in steps])
            if undone:
                raise typer.Exit(1)
            return
        if profile:
            if any(step.action.needs_work for step in todo):
                _check_ready(todo)
            runtime = default_runtime(
                scale,
                workers=workers,
                micro_batch=micro_batch,
                views_at_once=views_at_once,
                recompute=recompute,
                cpu=cpu,
                cores=profile.cpus,
            )
            _check(todo, profile=profile, runtime=runtime)
            submitted = launch_on_profile(
                console, steps, on=on, profile=profile, runtime=runtime, allow_dirty=allow_dirty, mode=mode
            )
            stuck = [step for step in steps if step.action is Action.BLOCKED and step not in submitted]
            if stuck:
                display.show_plan(console, stuck, title="not submitted")
            if not submitted:
                waiting = sum(is_on_cluster(step) for step in steps)
                console.print(f"nothing to submit: {waiting} of {len(steps)} runs wait or run; see vswin status")
            if as_json:
                display.print_json([display.step_json(step) for step in _plan(chosen, seeds)])
            if left or stuck:
                raise typer.Exit(1)
            return
        if on_cluster := [step for step in todo if is_on_cluster(step)]:
            console.print(f"{len(on_cluster)} runs are left to the cluster that they were submitted to")
            todo = [step for step in todo if step not in on_cluster]
            if not todo:
                raise typer.Exit(1)
        _check_ready(todo)
        jobs = jobs or places(scale)
        runtime = default_runtime(
            scale, workers=workers, micro_batch=micro_batch, views_at_once=views_at_once, recompute=recompute, cpu=cpu
        )
        _check(todo, profile=None, runtime=runtime)
        set_aside(todo, mode)
        console.print(f"{len(todo)} of {len(steps)} runs to do, {jobs} at once")
        failed = 0
        with Follower(scale) as follower, LaunchProgress(console, total=len(todo)) as progress:

            def start(step: Step) -> None:
                progress.started(step)
                follower.add(step.run, step.experiment)

            try:
                with closing(
                    launch_local(todo, jobs=jobs, runtime=runtime, on_start=start, on_poll=progress.poll)
                ) as ends:
                    for end in ends:
                        progress.ended(end)
                        failed += end.state is not State.DONE
            except KeyboardInterrupt:
                _fail("stopped; what was under way is saved, and the same command goes on with it")
    _report(follower.finish())
    console.print(f"{len(todo) - failed} finished, {failed} did not; in MLflow as vswin-{scale} (vswin ui)")
    if as_json:
        display.print_json([display.step_json(step) for step in _plan(chosen, seeds)])
    if failed or left:
        raise typer.Exit(1)


@app.command()
def evaluate(
    variant: VariantArgument,
    checkpoint: Annotated[Path, typer.Option(metavar="FILE", help="Weights of any format that vswin reads.")],
    scale: ScaleOption = Scale.PAPER,
    workers: WorkersOption = None,
    views_at_once: ViewsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Test published weights under a variant's protocol, on your videos; leaves a record of its own kind.

    Interrupted, the same command goes on. Under torchrun or srun its processes share out the videos.
    """
    from .progress import testing
    from .published import evaluate_published
    from .record import dump

    if as_json:
        console.stderr = True
    found = find_variant(variant)
    runtime = default_runtime(scale, workers=workers, views_at_once=views_at_once)
    with testing(console if _is_first_process() else Console(quiet=True), variant) as advance:
        record = evaluate_published(
            found, scale=scale, checkpoint=checkpoint, runtime=runtime, report=console.print, on_videos=advance
        )
    if record is None:
        return
    console.print(f"{variant}, published weights: {display.result(record)}")
    if as_json:
        display.print_json(json.loads(dump(record)))


@app.command()
def collect(scale: ScaleOption = Scale.MINI, as_json: JsonOption = False) -> None:
    """Turn finished runs into records under the results folder, and bring MLflow up to date."""
    written = collect_records(scale)
    report_failures(mirror_all(scale))
    if as_json:
        display.print_json([str(path) for path in written])
    else:
        where = display.relative(written[0].parent) if written else display.relative(folders.results())
        console.print(f"{len(written)} records in {where}", soft_wrap=True)


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """What this machine has, and what is missing for which journey."""
    from .doctor import findings

    found = findings()
    if as_json:
        display.print_json([vars(item) for item in found])
    else:
        display.show_findings(console, found)


app.command("predict")(people_commands.predict)
app.command("features")(people_commands.features)


def main() -> None:
    """The ``vswin`` command."""
    try:
        app()
    except (UnknownNameError, NoRecipeError) as error:
        _fail(str(error), code=2)
    except Exception as error:
        # our own errors say what is wrong and what to do; a traceback above would hide it
        if type(error).__module__.partition(".")[0] not in ("vswin", "experiments"):
            raise
        _fail(str(error))


def _chosen(scale: Scale, names: Iterable[str] | None) -> list[Experiment]:
    return experiments(scale, tables_at(scale, names or ()))


def _plan(chosen: list[Experiment], seeds: int, mode: Mode = Mode.CACHED) -> list[Step]:
    return plan_now(chosen, seeds=range(seeds), mode=mode)


def _show_plan(steps: list[Step], *, title: str, as_json: bool) -> None:
    if as_json:
        display.print_json([display.step_json(step) for step in steps])
    else:
        display.show_plan(console, steps, title=title)


def _is_first_process() -> bool:
    """Whether this is the process that speaks for all that torchrun or srun started."""
    from vswin.training.distributed import World

    return World.from_environment().is_first


def _check(steps: list[Step], *, profile: Profile | None, runtime: Runtime) -> None:
    from .check import before_launch

    todo = [step for step in steps if step.action.needs_work or step.action is Action.BLOCKED]
    if found := before_launch(todo, profile=profile, runtime=runtime):
        told = dict.fromkeys(f"{finding.aspect}, {finding.about}: {finding.detail}" for finding in found)
        _fail("\n  ".join(["this would not work; see vswin check", *told]))


def _check_ready(steps: list[Step]) -> None:
    from vswin.data.annotations import DataError

    from .job import check_ready

    try:
        check_ready([step.experiment for step in steps])
    except DataError as error:
        _fail(str(error))


def _report(missing: str) -> None:
    if missing:
        console.print(f"MLflow: {missing}", markup=False, soft_wrap=True)
        console.print("nothing is lost: vswin sync tells MLflow the rest when it is back")


def _fail(message: str, *, code: int = 1) -> NoReturn:
    print(f"vswin: {message}", file=sys.stderr)
    raise SystemExit(code)
