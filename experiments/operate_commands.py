"""Commands that look after runs: what they will take, whether they can work, how they stand."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console, RenderableType

from .display import print_json, relative
from .jobs import Jobs
from .options import (
    CpuOption,
    JsonOption,
    MicroBatchOption,
    OnOption,
    RecomputeOption,
    ScaleOption,
    SeedsOption,
    SomeTables,
)
from .plan import Action, Step, plan_of
from .profiles import find_profile
from .recipe import Scale
from .registry import (
    Experiment,
    Table,
    experiments,
    find_experiment,
    find_table,
    find_variant,
    tables_at,
)
from .runs import RunDirectory, existing
from .runtime import default_runtime
from .upstream import SEED

if TYPE_CHECKING:
    from .forecast import Actual, Estimate, Place, Rate
    from .status import Standing

console = Console(highlight=False)


def add_operate_commands(app: typer.Typer) -> None:
    """Give ``app`` these commands."""
    app.command("check")(check_)
    app.command("forecast")(forecast_)
    app.command("status")(status_)
    app.command("logs")(logs_)
    app.command("cancel")(cancel_)


def check_(
    table: SomeTables = None,
    scale: ScaleOption = Scale.MINI,
    seeds: SeedsOption = 3,
    on: OnOption = "local",
    take_steps: Annotated[
        bool, typer.Option("--steps/--no-steps", help="Train each model for one step on one real batch.")
    ] = True,
    again: Annotated[bool, typer.Option("--again", help="Also the steps that went well before.")] = False,
    micro_batch: MicroBatchOption = None,
    recompute: RecomputeOption = False,
    cpu: CpuOption = False,
    as_json: JsonOption = False,
) -> None:
    """Whether every variant of some tables can work: fields, cost, weights, one training step, data, disk, time."""
    from . import operate_display
    from .check import Outcome, check, forget_steps
    from .forecast import actuals, measured_rate, with_upstream
    from .plan import is_upstream
    from .progress import counting

    chosen = tables_at(scale, table or ())
    found = with_upstream(experiments(scale, chosen))
    variants = [experiment.variants[0] for experiment in found if is_upstream(experiment)]
    variants += [variant for item in chosen for variant in item.at(scale) if variant not in variants]
    if again:
        forget_steps()
    with counting(Console(stderr=True), "training steps", total=len(found)) as advance:
        findings = check(
            found,
            variants=variants,
            runs={experiment.recipe.signature: 1 if is_upstream(experiment) else seeds for experiment in found},
            take_steps=take_steps,
            profile=find_profile(on),
            rate=measured_rate(found, actuals(found)),
            runtime=default_runtime(scale, micro_batch=micro_batch, recompute=recompute, cpu=cpu),
            on_step=lambda experiment: advance(1),
        )
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        operate_display.show_findings(console, findings, title=f"scale {scale}")
    if any(finding.outcome is Outcome.FAILED for finding in findings):
        raise typer.Exit(1)


def forecast_(
    table: SomeTables = None,
    scale: ScaleOption = Scale.MINI,
    seeds: SeedsOption = 3,
    on: OnOption = "local",
    throughput: Annotated[
        str,
        typer.Option(
            metavar="CLIPS_PER_S|measured",
            help="Of table4/joint in training, per device; 'measured' insists on that. Default: measured, or a guess.",
        ),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Steps, GPU-hours, wall time and disk of some tables; what the runs took that are done."""
    from . import operate_display
    from .forecast import actuals, forecast, total, with_upstream

    chosen = tables_at(scale, table or ())
    found = with_upstream(experiments(scale, chosen))
    known = actuals(experiments(scale))
    place = _place(on, scale)
    rate = _rate(throughput, scale, known)
    estimates = forecast(found, seeds=seeds, place=place, rate=rate, actual=known)
    by_table = {item.id: _of_table(item, scale, estimates) for item in chosen}
    sums = {name: total(own, place=place) for name, own in by_table.items()}
    whole = total(estimates, place=place)
    if as_json:
        print_json(
            {
                "scale": scale,
                "seeds": seeds,
                "place": asdict(place),
                "rate": asdict(rate),
                "experiments": [operate_display.estimate_json(item) for item in estimates],
                "tables": {name: asdict(item) for name, item in sums.items()},
                "total": asdict(whole),
            }
        )
    else:
        operate_display.show_forecast(console, by_table, sums, whole, scale=scale, seeds=seeds, place=place, rate=rate)


def _of_table(table: Table, scale: Scale, estimates: Sequence[Estimate]) -> list[Estimate]:
    rows = set(table.at(scale))
    own = [item for item in estimates if rows.intersection(item.experiment.variants)]
    needed = {source.recipe.signature for item in own for source in item.experiment.upstream}
    return [item for item in estimates if item.experiment.recipe.signature in needed or item in own]


def _rate(throughput: str, scale: Scale, known: dict[str, Actual]) -> Rate:
    from .forecast import NothingMeasuredError, assumed_rate, given_rate, measured_rate

    if throughput not in ("", "measured"):
        try:
            clips = float(throughput)
        except ValueError:
            clips = 0.0
        if not clips > 0:
            raise typer.BadParameter(
                f"expected clips per second or 'measured', got {throughput!r}", param_hint="--throughput"
            )
        return given_rate(clips, scale=scale)
    measured = measured_rate(experiments(scale), known)
    if measured is None and throughput:
        raise NothingMeasuredError(
            f"no run at scale {scale} has measured anything yet; give a number: --throughput CLIPS_PER_S"
        )
    return measured or assumed_rate(scale)


def _place(on: str, scale: Scale) -> Place:
    from .forecast import Place

    if profile := find_profile(on):
        return Place(name=on, devices=profile.processes_per_run, at_once=profile.parallel)
    # GPUs are not counted without torch; a workstation has one more often than not
    return Place(name=on, at_once=1 if scale is Scale.PAPER else len(os.sched_getaffinity(0)))


# ------------------------------------------------------------------------------------------------ status


def status_(
    table: SomeTables = None,
    scale: ScaleOption = Scale.MINI,
    seeds: SeedsOption = 3,
    every_run: Annotated[bool, typer.Option("--runs", help="A line for each run, not one over all seeds.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Draw it again and again, until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(min=0.2, metavar="SECONDS", help="How often, with --watch.")] = 3.0,
    as_json: JsonOption = False,
) -> None:
    """How runs stand, and what a launch would do next: what Slurm, journals and records say in one table."""
    from . import operate_display
    from .status import in_words, now, standing_json, standings

    chosen = experiments(scale, tables_at(scale, table or ()))

    def look() -> list[Standing]:
        steps, jobs = _plan(chosen, range(seeds))
        return standings(steps, jobs)

    def view() -> RenderableType:
        found = look()
        done = sum(item.step.action is Action.DONE for item in found)
        title = f"scale {scale}, {seeds} {'seed' if seeds == 1 else 'seeds'}: {done} of {len(found)} runs done"
        if watch:
            title += f", at {now()}, every {in_words(every)}; Ctrl-C ends it"
        return operate_display.status_view(found, title=title, every_run=every_run)

    from rich.live import Live

    if as_json:
        print_json([standing_json(item) for item in look()])
    elif watch and console.is_terminal:
        # KeyboardInterrupt is how it is meant to end
        with contextlib.suppress(KeyboardInterrupt), Live(view(), console=console, auto_refresh=False) as live:
            while True:
                time.sleep(every)
                live.update(view(), refresh=True)
    else:
        console.print(view())


def _plan(chosen: Sequence[Experiment], seeds: Iterable[int]) -> tuple[list[Step], Jobs]:
    from .forecast import with_upstream

    seeds = list(seeds)
    jobs = Jobs(
        RunDirectory(experiment.scale, experiment.recipe.signature, seed)
        for experiment in with_upstream(chosen)
        for seed in sorted({SEED, *seeds})
    )
    return _planned(chosen, seeds, jobs), jobs


def _planned(chosen: Sequence[Experiment], seeds: Iterable[int], jobs: Jobs) -> list[Step]:
    return plan_of(chosen, seeds=seeds, jobs=jobs)


# -------------------------------------------------------------------------------------------------- logs


def logs_(
    variant: Annotated[str, typer.Argument(metavar="VARIANT", help="Such as table4/split.")],
    seed: Annotated[
        int | None, typer.Option(min=0, help="Default: one that failed, else one at work, else the newest.")
    ] = None,
    scale: ScaleOption = Scale.MINI,
    lines: Annotated[int, typer.Option(min=0, metavar="N", help="So many lines of the end.")] = 40,
    follow: Annotated[bool, typer.Option("--follow", help="Go on as the run prints, until it ends or Ctrl-C.")] = False,
) -> None:
    """What a run printed; where it failed, the exception first."""
    from . import logs

    experiment = find_experiment(scale, find_variant(variant))
    seeds = [run.seed for run in existing([experiment])] if seed is None else [seed]
    planned, jobs = _plan([experiment], seeds)
    # without what it starts from
    steps = [step for step in planned if step.experiment == experiment]
    if not steps or not steps[0].run.path.exists():
        which = "" if seed is None else f" with seed {seed}"
        _fail(f"{variant} has never run at scale {scale}{which}; see: vswin status {variant.partition('/')[0]}")
    step = max(steps, key=lambda step: (_FIRST_TO_READ.get(step.action, 0), _modified(step.run)))
    run = step.run
    attempt, failure, job = run.last_attempt(), jobs.failure(run), jobs.job(run)
    parts = [f"{variant} seed {step.seed} is {step.action}", step.why]
    parts += [f"attempt {attempt.number}"] if attempt else []
    parts += [f"job {job.id}{f' on {job.nodes}' if job.nodes else ''}"] if job else []
    parts += [f"ended by: {failure}"] if failure and step.action is not Action.DONE else []
    console.print(", ".join(parts), style="bold", markup=False, soft_wrap=True)
    if run.error.exists():
        console.print(run.last_error(), style="red", markup=False, soft_wrap=True)
        console.print(f"its traceback: {relative(run.error)}", style="dim", soft_wrap=True)
        console.print(run.error.read_text().rstrip(), markup=False, soft_wrap=True)
    output = logs.output_of(run)
    if output is None:
        console.print("it was started by hand, with vswin run: what it printed went to that terminal", style="dim")
        return
    text, offset = logs.tail(output, lines=lines)
    console.print(
        f"the end of {relative(output)}:" if text else f"nothing in {relative(output)} yet", style="dim", soft_wrap=True
    )
    # as the job wrote it
    sys.stdout.write(text if not text or text.endswith("\n") else f"{text}\n")
    sys.stdout.flush()
    if follow:
        with contextlib.suppress(KeyboardInterrupt):
            for more in logs.follow(output, offset=offset, is_over=lambda: _is_over(experiment, step.seed)):
                sys.stdout.write(more)
                sys.stdout.flush()


_FIRST_TO_READ = {Action.FAILED: 3, Action.RETRY: 3, Action.RUNNING: 2, Action.PENDING: 1}


def _modified(run: RunDirectory) -> float:
    return run.attempt.stat().st_mtime if run.attempt.exists() else 0.0


def _is_over(experiment: Experiment, seed: int) -> bool:
    steps, _ = _plan([experiment], [seed])
    return not any(step.action in (Action.RUNNING, Action.PENDING) for step in steps if step.experiment == experiment)


# ------------------------------------------------------------------------------------------------ cancel


def cancel_(
    targets: Annotated[
        list[str] | None, typer.Argument(metavar="[TABLE|VARIANT]...", help="Such as table4 or table4/split.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every run of the scale, and launches on this machine.")
    ] = False,
    scale: ScaleOption = Scale.MINI,
    seed: Annotated[int | None, typer.Option(min=0, help="Only this one; default: all.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be ended.")] = False,
    as_json: JsonOption = False,
) -> None:
    """End runs that work or wait. On this machine they save first; the same launch goes on with them later."""
    from . import cancel, operate_display

    if bool(targets) is everything:
        raise typer.BadParameter("name tables or variants, or say --all")
    known = experiments(scale)
    chosen = [experiment for experiment in known if everything or _is_named(experiment, targets or (), scale)]
    steps, jobs = _plan_existing(known)
    own = [step for step in steps if step.experiment in chosen and seed in (None, step.seed)]
    planned = cancel.endings(own, jobs)
    shared = cancel.also_ended(planned, [step for step in steps if step not in own], jobs)
    launchers = cancel.local_launchers(planned, jobs) if planned else []
    failed: list[cancel.Ending] = []
    if not dry_run:
        if everything:
            cancel.stop_launchers(launchers)
        failed = cancel.carry_out(planned)
    if as_json:
        print_json([operate_display.ending_json(ending, failed) for ending in planned])
    else:
        operate_display.show_endings(console, planned, failed, shared, dry_run=dry_run)
        if launchers and not everything:
            console.print("a launch on this machine goes on with the runs it has waiting; --all ends it, too")
    if failed:
        raise typer.Exit(1)


def _is_named(experiment: Experiment, targets: Iterable[str], scale: Scale) -> bool:
    own = set(experiment.variants)
    return any(
        own.intersection([find_variant(name)] if "/" in name else find_table(name).at(scale)) for name in targets
    )


def _plan_existing(known: Sequence[Experiment]) -> tuple[list[Step], Jobs]:
    """A step for every run directory there is."""
    runs = {experiment: list(existing([experiment])) for experiment in known}
    jobs = Jobs(run for some in runs.values() for run in some)
    steps = [
        step
        for experiment, some in runs.items()
        for step in _planned([experiment], [run.seed for run in some], jobs)
        if step.experiment == experiment
    ]
    return steps, jobs


def _fail(message: str) -> NoReturn:
    print(f"vswin: {message}", file=sys.stderr)
    raise SystemExit(1)
