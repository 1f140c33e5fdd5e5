"""Commands that run variants: check, launch, run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from .. import folders
from ..launch.launching import Launched, Target, preview
from ..launch.launching import launch as launch_tables
from ..launch.launching import run as run_variant
from ..launch.plan import Mode, plan_now
from ..launch.profiles import LOCAL, find_profile
from ..registry.catalogue import experiments, experiments_named, tables_at
from ..registry.recipe import Scale
from ..runs.runtime import default_runtime
from ..words import relative
from .display import console, errors, fail, messages, print_json
from .display.runs import result, show_plan, step_json
from .options import (
    CpuOption,
    JsonOption,
    MicroBatchOption,
    OnOption,
    RecomputeOption,
    ScaleOption,
    SeedNumbers,
    SeedNumbersOption,
    SeedOption,
    SeedsOption,
    SomeTables,
    VariantArgument,
    ViewsOption,
    WorkersOption,
)
from .results import show_behind

if TYPE_CHECKING:
    from ..launch.cluster import Outlook
    from ..launch.repair import Repair


def check(
    table: SomeTables = None,
    scale: ScaleOption = Scale.MINI,
    seeds: SeedsOption = 3,
    on: OnOption = "local",
    take_steps: Annotated[
        bool, typer.Option("--steps/--no-steps", help="Train each model for one step on one real batch.")
    ] = True,
    again: Annotated[bool, typer.Option("--again", help="Repeat steps that went well before.")] = False,
    micro_batch: MicroBatchOption = None,
    recompute: RecomputeOption = False,
    cpu: CpuOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check that every variant of some tables can work: fields, cost, weights, a training step, data, disk, time."""
    from ..launch.check import Outcome
    from ..launch.check import check as check_all
    from ..launch.first_step import forget_steps
    from ..launch.forecast import actuals, measured_rate, with_upstream
    from .display.check import show_findings
    from .progress import counting

    chosen = tables_at(scale, table or ())
    found = with_upstream(experiments(scale, chosen))
    variants = [experiment.variants[0] for experiment in found if experiment.is_upstream]
    variants += [variant for item in chosen for variant in item.at(scale) if variant not in variants]
    if again:
        forget_steps()
    with counting(errors, "training steps", total=len(found)) as advance:
        findings = check_all(
            found,
            variants=variants,
            runs={experiment.recipe.signature: 1 if experiment.is_upstream else seeds for experiment in found},
            take_steps=take_steps,
            profile=find_profile(on),
            rate=measured_rate(found, actuals(found)),
            runtime=default_runtime(scale, micro_batch=micro_batch, recompute=recompute, cpu=cpu),
            on_step=lambda experiment: advance(1),
        )
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        show_findings(console, findings, title=f"scale {scale}")
    if any(finding.outcome is Outcome.FAILED for finding in findings):
        raise typer.Exit(1)


def launch(
    table: Annotated[
        list[str], typer.Argument(metavar="TABLE|VARIANT...", help="Such as table4 table6, or table4/split.")
    ],
    scale: ScaleOption = Scale.MINI,
    seeds: SeedNumbersOption = SeedNumbers(range(3)),  # noqa: B008
    on: OnOption = LOCAL,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at once on this machine; default: its cores.")] = None,
    workers: WorkersOption = None,
    micro_batch: MicroBatchOption = None,
    views_at_once: ViewsOption = None,
    recompute: RecomputeOption = False,
    cpu: CpuOption = False,
    mode: Annotated[
        Mode,
        typer.Option(
            help="Treatment of earlier attempts: cached skips runs that failed by their own error, retry retries them, "
            "force also repeats done ones (the old are moved aside), read-only starts nothing."
        ),
    ] = Mode.CACHED,
    allow_dirty: Annotated[
        bool, typer.Option("--allow-dirty", help="On a cluster: run uncommitted code, and keep it with every run.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and stop.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run every variant of some tables once per seed. Finished runs are not repeated.

    On this machine (with your working tree) it waits for the runs to end; on a cluster (with a clone of the commit) it
    submits them and returns.
    """
    profile = find_profile(on)
    runtime = default_runtime(
        scale,
        workers=workers,
        micro_batch=micro_batch,
        views_at_once=views_at_once,
        recompute=recompute,
        cpu=cpu,
        cores=profile.cpus if profile else None,
    )
    target = Target(profile=on, jobs=jobs, runtime=runtime, allow_dirty=allow_dirty)
    if dry_run:
        _show_preview(table, scale=scale, seeds=seeds, mode=mode, target=target, as_json=as_json)
        return
    from .progress import LaunchProgress

    out = messages(as_json)
    with LaunchProgress(out) as progress:
        try:
            launched = launch_tables(table, scale=scale, seeds=seeds, mode=mode, target=target, observer=progress)
        except KeyboardInterrupt:
            fail("stopped; unfinished runs are saved, and the same command resumes them")
    _show_launched(out, launched, on=on)
    if as_json:
        steps = plan_now(experiments_named(scale, table), seeds=seeds)
        print_json([step_json(step) for step in steps])
    if not launched.ok:
        raise typer.Exit(1)


def _show_preview(
    table: list[str], *, scale: Scale, seeds: SeedNumbers, mode: Mode, target: Target, as_json: bool
) -> None:
    found = preview(table, scale=scale, seeds=seeds, mode=mode, target=target)
    if as_json:
        print_json([step_json(step) for step in found.steps])
    else:
        if found.outlook:
            console.print(_in_a_line(found.outlook, on=target.profile), soft_wrap=True, markup=False)
        show_plan(console, found.steps, title="would do")
        for script in found.scripts:
            console.print(f"\n{script.strip()}", soft_wrap=True, markup=False)
        if found.missing:
            console.print("\n[bold]missing[/]")
        for item in found.missing:
            console.print(f"  {item}", soft_wrap=True, markup=False)
    if found.missing:
        raise typer.Exit(1)


def _in_a_line(outlook: Outlook, *, on: str) -> str:
    """``would submit 27 jobs to gpu in 1 array, 4 at once; Slurm would start the first at ...``."""
    several = ("s" if outlook.jobs != 1 else "", "s" if outlook.arrays != 1 else "")
    parts = [f"would submit {outlook.jobs} job{several[0]} to {on} by {outlook.arrays} sbatch call{several[1]}"]
    parts += [f"{min(outlook.at_once, outlook.jobs)} at once"] if outlook.at_once else []
    said = [f"Slurm would start the first at {outlook.start}"] if outlook.start else []
    said += [f"not all fit into the queue now, a later launch submits the rest: {outlook.full}"] if outlook.full else []
    return "; ".join([", ".join(parts), *said])


def _show_launched(console: Console, launched: Launched, *, on: str) -> None:
    """Say what came of a launch; its runs were drawn while they went on."""
    _show_repaired(console, launched.repaired)
    total = len(launched.steps)
    if not launched.undone:
        console.print(f"nothing to do: all {total} runs are done")
    elif launched.submitted:
        console.print(
            f"submitted {len(launched.submitted)} of {total} runs to {on}: {', '.join(launched.jobs)}", markup=False
        )
        console.print("they go on without this terminal: vswin status")
    elif on != LOCAL and len(launched.skipped) < len(launched.undone):
        nothing = "nothing is submitted now" if launched.left else "nothing to submit"
        console.print(f"{nothing}: {len(launched.on_cluster)} of {total} runs wait or run; see vswin status")
    elif launched.on_cluster:
        console.print(f"{len(launched.on_cluster)} runs are left to the cluster that they were submitted to")
    if launched.left:
        console.print(
            f"{len(launched.left)} of {total} runs do not fit into the queue, and the next launch submits them: "
            f"{launched.full}",
            soft_wrap=True,
            markup=False,
        )
    if launched.blocked:
        show_plan(console, launched.blocked, title="not submitted")
    if launched.started or launched.failed:
        _show_behind(console, launched.behind)
        counts = f"{len(launched.finished)} finished, {len(launched.failed)} did not"
        console.print(f"{counts}; in MLflow as vswin-{launched.scale} (vswin ui)")
    if not launched.behind:
        # what earlier launches left, which a kill may have ended
        show_behind(console, launched.scale)


def run(
    variant: VariantArgument,
    seed: SeedOption = 0,
    scale: ScaleOption = Scale.MINI,
    workers: WorkersOption = None,
    micro_batch: MicroBatchOption = None,
    views_at_once: ViewsOption = None,
    recompute: RecomputeOption = False,
    cpu: CpuOption = False,
) -> None:
    """Train and test one variant in this process; resumes where an earlier attempt stopped.

    The runs that it starts from are trained first where they are not done. Under torchrun or srun its processes share
    every batch.
    """
    from ..results.record import load
    from .progress import RunProgress

    runtime = default_runtime(
        scale, workers=workers, micro_batch=micro_batch, views_at_once=views_at_once, recompute=recompute, cpu=cpu
    )
    with RunProgress(console) as progress:
        done = run_variant(variant, seed=seed, scale=scale, runtime=runtime, observer=progress)
    if done is None:
        return
    _show_repaired(console, done.repaired)
    _show_behind(console, done.behind)
    for path in done.records:
        console.print(f"{done.run.name}: {result(load(path))}", markup=False)
    where = done.run.directory.path
    if where.exists():
        console.print(f"everything it left: {relative(where)}", soft_wrap=True, markup=False)
    else:
        recorded = relative(folders.records(scale))
        console.print(
            f"its record is in {recorded}, so it is not trained again; with VSWIN_RESULTS=again it is",
            soft_wrap=True,
            markup=False,
        )


def _show_repaired(console: Console, repaired: Iterable[Repair]) -> None:
    """A line for each damage, with what was done about it."""
    for each in repaired:
        console.print(f"damaged  {each}", markup=False, soft_wrap=True)


def _show_behind(console: Console, behind: str) -> None:
    """Say what MLflow has not been told, and that nothing is lost."""
    if behind:
        console.print(f"MLflow: {behind}", markup=False, soft_wrap=True)
        console.print("nothing is lost: vswin sync tells MLflow the rest when it is back")
