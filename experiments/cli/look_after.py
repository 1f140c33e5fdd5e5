"""Commands that look after runs: status, logs, cancel."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType

from ..launch.plan import Action, Step, plan_of, runs_of
from ..registry.catalogue import (
    Experiment,
    experiments,
    experiments_named,
    find_experiment,
    find_table,
    find_variant,
    tables_at,
)
from ..registry.recipe import Scale
from ..runs import slurm
from ..runs.jobs import Jobs
from ..runs.run import Run, existing
from ..runs.slurm import PatientLook
from ..words import in_words, relative
from .display import console, fail, print_json
from .options import JsonOption, ScaleOption, SeedNumbers, SeedNumbersOption, SomeTables, VariantArgument

if TYPE_CHECKING:
    from ..launch.status import Standing

# Of several seeds, ``logs`` shows the run whose action has the highest number.
_FIRST_TO_READ = {Action.DAMAGED: 4, Action.FAILED: 3, Action.RETRY: 3, Action.RUNNING: 2, Action.PENDING: 1}


def status(
    table: SomeTables = None,
    scale: ScaleOption = Scale.MINI,
    seeds: SeedNumbersOption = SeedNumbers(range(3)),  # noqa: B008
    every_run: Annotated[bool, typer.Option("--runs", help="A line for each run, not one over all seeds.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Also runs that were never started; --json always has them.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(min=0.2, metavar="SECONDS", help="Interval of --watch.")] = 3.0,
    as_json: JsonOption = False,
) -> None:
    """Show the status of runs, and what a launch would do next: Slurm, journals and records in one table."""
    from ..launch.status import now, standing_json, standings
    from ..tracking.told import behind
    from .display.runs import status_view

    chosen = experiments_named(scale, table) if table else experiments(scale, tables_at(scale))
    # the journals may be read as often as one likes
    ask = PatientLook() if watch else slurm.look

    def look() -> tuple[list[Standing], Jobs]:
        steps, jobs = _plan(chosen, seeds, ask=ask)
        return standings(steps, jobs, tables=table or ()), jobs

    def view(found: Sequence[Standing], jobs: Jobs) -> RenderableType:
        shown = [item for item in found if everything or item.was_started]
        done = sum(item.step.action is Action.DONE for item in found)
        title = f"scale {scale}, {seeds}: {done} of {len(found)} runs done"
        if watch:
            title += f", at {now()}, every {in_words(every)}; Ctrl-C ends it"
        told = behind({item.step.run: jobs.state(item.step.run) for item in found})
        return status_view(shown, title=title, every_run=every_run, hidden=len(found) - len(shown), behind=told)

    if as_json:
        print_json([standing_json(item) for item in look()[0]])
    elif watch and console.is_terminal:
        from rich.live import Live

        # KeyboardInterrupt is how it is meant to end
        with contextlib.suppress(KeyboardInterrupt), Live(view(*look()), console=console, auto_refresh=False) as live:
            while True:
                time.sleep(every)
                live.update(view(*look()), refresh=True)
    else:
        found, jobs = look()
        console.print(view(found, jobs))
        _show_orphans(scale, [item.step for item in found])


def _show_orphans(scale: Scale, steps: Sequence[Step]) -> None:
    """Name the live jobs that are in no line of the table."""
    from ..launch.orphans import orphans

    try:
        found = orphans(scale, steps)
    except slurm.SlurmError as error:
        console.print(f"could not ask Slurm for jobs of other runs: {error}", markup=False, soft_wrap=True)
        return
    for orphan in found:
        told = f"also in the queue: job {orphan.job.id} is {orphan.job.state}, {orphan.run}: {orphan.why}"
        console.print(told, markup=False, soft_wrap=True)
    if not all(orphan.is_known for orphan in found):
        console.print("vswin cancel --orphans ends those that no table has", style="dim")


def _plan(
    chosen: Sequence[Experiment],
    seeds: Iterable[int],
    *,
    ask: Callable[[Collection[str]], dict[str, slurm.Job]] = slurm.look,
) -> tuple[list[Step], Jobs]:
    seeds = list(seeds)
    jobs = Jobs(runs_of(chosen, seeds), ask=ask)
    return plan_of(chosen, seeds=seeds, jobs=jobs), jobs


def logs(
    variant: VariantArgument,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Default: one that failed, else one at work, else the newest.")
    ] = None,
    scale: ScaleOption = Scale.MINI,
    lines: Annotated[int, typer.Option(min=0, metavar="N", help="Lines to show, from the end.")] = 40,
    follow: Annotated[bool, typer.Option("--follow", help="Follow the output until the run ends, or Ctrl-C.")] = False,
) -> None:
    """Show the output of a run; where it failed, the exception first."""
    from ..launch import logs as output

    experiment = find_experiment(scale, find_variant(variant))
    seeds = [run.seed for run in existing([experiment])] if seed is None else [seed]
    planned, jobs = _plan([experiment], seeds)
    # without what it starts from
    steps = [step for step in planned if step.run.experiment == experiment]
    if not steps or not steps[0].run.directory.path.exists():
        which = "" if seed is None else f" with seed {seed}"
        fail(f"{variant} has never run at scale {scale}{which}; see: vswin status {variant.partition('/')[0]}")
    step = max(steps, key=lambda step: (_FIRST_TO_READ.get(step.action, 0), _modified(step.run)))
    run = step.run
    look, failure, job = jobs.look(run), jobs.failure(run), jobs.job(run)
    attempt = look.attempt
    parts = [f"{variant} seed {run.seed} is {step.action}", step.why]
    parts += [f"attempt {attempt.number}"] if attempt else []
    parts += [f"job {job.id}{f' on {job.nodes}' if job.nodes else ''}"] if job else []
    parts += [f"ended by: {failure}"] if failure and step.action is not Action.DONE else []
    console.print(", ".join(parts), style="bold", markup=False, soft_wrap=True)
    if look.error:
        console.print(look.error, style="red", markup=False, soft_wrap=True)
        console.print(f"its traceback: {relative(run.directory.error)}", style="dim", soft_wrap=True, markup=False)
        console.print(run.directory.error.read_text().rstrip(), markup=False, soft_wrap=True)
    printed = output.output_of(run)
    if printed is None:
        by_hand = "it was started by hand, with vswin run: what it printed went to that terminal"
        # of one that Slurm refused there is nothing but the reason, above
        console.print("it has printed nothing: no job of it ever ran" if attempt is None else by_hand, style="dim")
        return
    text, offset = output.tail(printed, lines=lines)
    console.print(
        f"the end of {relative(printed)}:" if text else f"nothing in {relative(printed)} yet",
        style="dim",
        soft_wrap=True,
    )
    # as the job wrote it
    sys.stdout.write(text if not text or text.endswith("\n") else f"{text}\n")
    sys.stdout.flush()
    if follow:
        with contextlib.suppress(KeyboardInterrupt):
            for more in output.follow(printed, offset=offset, is_over=lambda: _is_over(experiment, run.seed)):
                sys.stdout.write(more)
                sys.stdout.flush()


def _modified(run: Run) -> float:
    return run.directory.attempt.stat().st_mtime if run.directory.attempt.exists() else 0.0


def _is_over(experiment: Experiment, seed: int) -> bool:
    steps, _ = _plan([experiment], [seed])
    return not any(
        step.action in (Action.RUNNING, Action.PENDING) for step in steps if step.run.experiment == experiment
    )


def cancel(
    targets: Annotated[
        list[str] | None, typer.Argument(metavar="[TABLE|VARIANT]...", help="Such as table4 or table4/split.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every run of the scale, and launches on this machine.")
    ] = False,
    orphans: Annotated[
        bool, typer.Option("--orphans", help="Jobs in the queue that no table has a row for any more.")
    ] = False,
    scale: ScaleOption = Scale.MINI,
    seed: Annotated[int | None, typer.Option(min=0, help="Only this seed; default: all.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be ended.")] = False,
    as_json: JsonOption = False,
) -> None:
    """End runs that work or wait. On this machine they save first; the same launch resumes them later."""
    from ..launch import cancel as ends
    from .display.runs import ending_json, show_endings

    if [bool(targets), everything, orphans].count(True) != 1:
        raise typer.BadParameter("name tables or variants, or say --all or --orphans")
    known = experiments(scale)
    if orphans:
        _cancel_orphans(scale, dry_run=dry_run, as_json=as_json)
        return
    chosen = [experiment for experiment in known if everything or _is_named(experiment, targets or (), scale)]
    steps, jobs = _plan_existing(known)
    own = [step for step in steps if step.run.experiment in chosen and seed in (None, step.run.seed)]
    planned = ends.endings(own, jobs)
    shared = ends.also_ended(planned, [step for step in steps if step not in own], jobs)
    launchers = ends.local_launchers(planned, jobs) if planned else []
    failed = [ending for ending in planned if ending.means is ends.Means.NONE]
    if not dry_run:
        if everything:
            ends.stop_launchers(launchers)
        failed = ends.carry_out(planned)
    if as_json:
        print_json([ending_json(ending, failed) for ending in planned])
    else:
        others = [step for step in steps if step not in own]
        show_endings(console, planned, failed, shared, ends.dependants(planned, others, jobs), dry_run=dry_run)
        if launchers and not everything:
            console.print("a launch on this machine continues with the runs that it has waiting; --all ends it, too")
    if failed:
        raise typer.Exit(1)


def _cancel_orphans(scale: Scale, *, dry_run: bool, as_json: bool) -> None:
    from ..launch.orphans import cancel_orphans
    from ..launch.orphans import orphans as find_orphans

    try:
        found = [orphan for orphan in find_orphans(scale, ()) if not orphan.is_known]
        if not dry_run:
            cancel_orphans(found)
    except slurm.SlurmError as error:
        fail(f"could not ask Slurm: {error}")
    if as_json:
        print_json([{"job": orphan.job.id, "run": orphan.run, "why": orphan.why} for orphan in found])
        return
    for orphan in found:
        how = "would be" if dry_run else "was"
        console.print(f"{orphan.run}: job {orphan.job.id} {how} cancelled", markup=False, soft_wrap=True)
    if not found:
        console.print("nothing to cancel: no job is in the queue that no table has a row for")


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
        for step in plan_of([experiment], seeds=[run.seed for run in some], jobs=jobs)
        if step.run.experiment == experiment
    ]
    return steps, jobs
