"""Runs that are killed and starved of disk, over and over: each must end as if nothing had happened to it.

``python -m experiments.tools.torture [--kills N]`` (``make torture``) trains a table at scale ``tiny`` in a folder of
its own. Attempts meet faults: SIGKILL before or after one of their calls of fsync, rename, replace or unlink, in the
middle of a write or at a random moment; ENOSPC or EIO from a call; or SIGKILL of a whole launch. Then an ordinary
launch ends what is left, and all is compared with an undisturbed launch, to the bit. The figures go to
``results/torture/<date>.json``.
"""

from __future__ import annotations

import argparse
import builtins
import errno
import io
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import folders
from ..files import write_json
from ..job import provenance
from ..launch.plan import runs_of
from ..registry.catalogue import experiments, find_table
from ..registry.recipe import Scale
from ..results.record import load
from ..results.verify_runs import verify_runs
from ..runs import journal
from ..runs.directory import RunDirectory
from ..runs.run import Run
from ..runs.runtime import default_runtime
from ..runs.state import RunState

_TABLE = "table4"
_SEEDS = 3
_SCALE = Scale.TINY
# Attempts at one run in a round; the last launch ends what they leave.
_ATTEMPTS = 10
# One fault in so many is the end of a whole launch.
_LAUNCHES = 25
_PATIENCE_SECONDS = 600
_CALLS = ("fsync", "rename", "replace", "unlink")
_OWN = ("train/", "val/", "test/")


@dataclass(frozen=True)
class Fault:
    """A fault at the ``at``-th call that changes the disk: ``kind``, there or (``lasting``) also after it."""

    kind: str
    at: int
    lasting: bool = False


@dataclass
class Figures:
    """The faults there were, and what came of them. ``problems`` are named, one a line; there should be none."""

    faults: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    runs: int = 0
    attempts: int = 0
    launches: int = 0
    points: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """Faults of all kinds."""
        return sum(self.faults.values())


class _Injector:
    """Counts the calls of this process that change files below ``folder``, and has one of them meet ``fault``."""

    def __init__(self, folder: Path, fault: Fault, note: Path) -> None:
        self._folder, self._fault, self._note = str(folder), fault, note
        self._count = 0

    def install(self) -> None:
        for name in _CALLS:
            setattr(os, name, self._wrapped(name, getattr(os, name)))
        builtins.open = io.open = self._opened(io.open)

    def _wrapped(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            if name != "fsync" and not str(arguments[0]).startswith(self._folder):
                return call(*arguments, **options)
            due = self._due()
            if due and self._fault.kind == "kill before":
                self._die(name)
            if due and self._fault.kind in ("ENOSPC", "EIO"):
                raise self._error(name)
            answer = call(*arguments, **options)
            if due:
                self._die(name)
            return answer

        return wrapper

    def _opened(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            opened = call(file, mode, *arguments, **options)
            writes = any(letter in mode for letter in "wax+") and str(file).startswith(self._folder)
            return _Torn(opened, self) if writes else opened

        return wrapper

    def write(self, file: Any, content: Any) -> Any:
        """Write ``content``, or half of it where that is the fault."""
        if not self._due():
            return file.write(content)
        written = file.write(content if self._fault.kind == "kill after" else content[: len(content) // 2])
        file.flush()
        if self._fault.kind in ("ENOSPC", "EIO"):
            raise self._error("write")
        self._die("write")
        return written

    def _due(self) -> bool:
        self._count += 1
        return self._count == self._fault.at or (self._fault.lasting and self._count > self._fault.at)

    def _error(self, name: str) -> OSError:
        self._tell(name)
        number = errno.ENOSPC if self._fault.kind == "ENOSPC" else errno.EIO
        return OSError(number, os.strerror(number))

    def _die(self, name: str) -> None:
        self._tell(name)
        os.kill(os.getpid(), signal.SIGKILL)

    def _tell(self, name: str) -> None:
        # past the wrappers, and once
        if not self._note.exists():
            descriptor = os.open(self._note, os.O_WRONLY | os.O_CREAT)
            kind = self._fault.kind if "kill" not in self._fault.kind else f"SIGKILL {self._fault.kind.split()[1]}"
            os.write(descriptor, f"{kind} {name}".encode())
            os.close(descriptor)


class _Torn:
    """A file whose writes go through the injector."""

    def __init__(self, file: Any, injector: _Injector) -> None:
        self._file, self._injector = file, injector

    def write(self, content: Any) -> Any:
        return self._injector.write(self._file, content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _Torn:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._file)


def torture(
    *, kills: int, seed: int = 0, minutes: float = 24 * 60.0, folder: Path, say: Callable[[str], None]
) -> Figures:
    """Torture runs in ``folder``, which holds nothing else, until there were ``kills`` faults or it took ``minutes``.

    ``seed`` decides the faults. Forks, so call it before torch has computed anything in this process.
    """
    chance = random.Random(seed)
    figures = Figures()
    with _at(folder / "reference", data=folder / "data"):
        names = {run.experiment.recipe.data.dataset for run in _runs()}
        _command("data", "generate", *sorted(names))
        _command("launch", _TABLE, "--scale", _SCALE, "--seeds", str(_SEEDS))
        expected = {run: _outcome(run.directory) for run in _runs()}
        _import_all()
    deadline = time.monotonic() + 60 * minutes
    while figures.kills < kills and time.monotonic() < deadline:
        home = folder / f"round-{figures.rounds}"
        with _at(home, data=folder / "data"):
            for run in _runs():
                if run.experiment.is_upstream and figures.rounds % 2:
                    # it takes a round of its own to have what starts from it wait for it
                    shutil.copytree(_in(folder / "reference", run), run.directory.path, ignore=_without_tracking)
            _disturb(home, figures, chance, kills=kills)
            _command("launch", _TABLE, "--scale", _SCALE, "--seeds", str(_SEEDS), "--mode", "retry")
            figures.launches += 1
            _check(figures, expected)
        figures.rounds += 1
        say(f"round {figures.rounds}: {figures.kills} faults, {figures.runs} runs, {len(figures.problems)} problems")
        shutil.rmtree(home)
    return figures


def _runs() -> list[Run]:
    """First the one that the others start from."""
    return runs_of(experiments(_SCALE, [find_table(_TABLE)]), range(_SEEDS))


def _in(home: Path, run: Run) -> Path:
    return home / "runs" / run.directory.path.relative_to(folders.runs())


def _without_tracking(folder: str, names: list[str]) -> Iterable[str]:
    return {"tracking.json"}.intersection(names)


@contextmanager
def _at(home: Path, *, data: Path) -> Iterator[None]:
    """Everything that a launch touches below ``home``."""
    own = {"VSWIN_RUNS": "runs", "VSWIN_RESULTS": "results"}
    before = dict(os.environ)
    os.environ.update({name: str(home / path) for name, path in own.items()}, VSWIN_DATA=str(data))
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    home.mkdir(parents=True)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _command(*arguments: str) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "experiments", *arguments], capture_output=True, text=True, check=False
    )
    if answer.returncode:
        raise RuntimeError(
            f"vswin {' '.join(arguments)} ended with {answer.returncode}:\n{answer.stdout}{answer.stderr}"
        )


def _import_all() -> None:
    """Import all that an attempt does, once for all of them."""
    import torch

    import vswin.data.loaders
    import vswin.models
    import vswin.training.evaluate
    import vswin.training.train  # noqa: F401

    from ..job import body  # noqa: F401

    torch.set_num_threads(1)


# ---------------------------------------------------------------------------------------------------------- faults


def _disturb(home: Path, figures: Figures, chance: random.Random, *, kills: int) -> None:
    """Have the runs meet faults; one is left for the launch to start, and others for it to end."""
    upstream, *others = _runs()
    chance.shuffle(others)
    for run in (upstream, *others[1:]):
        for _ in range(_ATTEMPTS):
            if run.state() is RunState.DONE or figures.kills >= kills:
                break
            if run is not upstream and chance.randrange(_LAUNCHES) == 0:
                _kill_a_launch(figures, chance)
            else:
                _attempt(home, run, figures, chance)
        if run is upstream and run.state() is not RunState.DONE:
            # what starts from it is to meet faults in this round, too
            _attempt(home, run, figures, chance, fault=Fault("none", 0))


def _attempt(home: Path, run: Run, figures: Figures, chance: random.Random, *, fault: Fault | None = None) -> None:
    """One attempt at ``run``, in a process of its own, that meets ``fault`` (or any) unless it ends before."""
    figures.attempts += 1
    note = home / "fault"
    note.unlink(missing_ok=True)
    kind = (
        fault.kind
        if fault
        else chance.choice(("kill before", "kill after", "kill before", "kill after", "ENOSPC", "EIO", "moment"))
    )
    # a run makes some hundred such calls, a resumed one fewer
    fault = fault or Fault(kind, int(chance.uniform(1, chance.choice((12, 60, 200)))), lasting=chance.random() < 0.3)
    wait = chance.uniform(0.05, 1.5)
    child = os.fork()
    if not child:
        _be_an_attempt(home, run, fault, note)
    if kind == "moment":
        time.sleep(wait)
        os.kill(child, signal.SIGKILL)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            figures.problems.append(f"{run.name}: an attempt hung after {fault}")
        time.sleep(0.002)
    if kind == "moment" and os.WIFSIGNALED(ended[1]):
        figures.faults["SIGKILL at a moment"] += 1
    elif note.exists():
        figures.faults[note.read_text()] += 1
    if os.WIFEXITED(ended[1]) and os.WEXITSTATUS(ended[1]):
        error = (home / "error").read_text() if (home / "error").exists() else "?"
        figures.errors[error.strip().splitlines()[-1].partition(":")[0]] += 1
        if not note.exists():
            figures.problems.append(f"{run.name}: an attempt failed by itself: {error.strip().splitlines()[-1]}")


def _be_an_attempt(home: Path, run: Run, fault: Fault, note: Path) -> None:
    """Never returns."""
    from ..job.body import run_one

    code = 1
    try:
        output = os.open(home / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        (home / "error").unlink(missing_ok=True)
        if fault.kind != "moment":
            _Injector(folders.runs(), fault, note).install()
        variant = run.experiment.variants[0].id
        run_one(_SCALE, variant, run.experiment.recipe.signature, run.seed, runtime=default_runtime(_SCALE))
        code = 0
    except BaseException:
        (home / "error").write_text(traceback.format_exc())
    finally:
        os._exit(code)


def _kill_a_launch(figures: Figures, chance: random.Random) -> None:
    """Kill a launch with all that it has started, at a random moment."""
    import psutil

    command = [sys.executable, "-m", "experiments", "launch", _TABLE, "--scale", _SCALE, "--seeds", str(_SEEDS)]
    launch = subprocess.Popen(
        [*command, "--mode", "retry"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    figures.launches += 1
    process = psutil.Process(launch.pid)
    time.sleep(chance.uniform(2, 15))
    if launch.poll() is None:
        below = process.children(recursive=True)
        for each in (process, *below):
            try:
                each.kill()
            except psutil.NoSuchProcess:
                continue
        figures.faults["SIGKILL of a launch"] += 1
        psutil.wait_procs(below)
    launch.wait()


# ---------------------------------------------------------------------------------------------------------- checks


@dataclass(frozen=True)
class _Outcome:
    """All that a run computed: metrics by step, scores of its tests, weights, and the numbers of its records."""

    steps: tuple[tuple[int, tuple[tuple[str, float], ...]], ...]
    scores: dict[str, bytes]
    weights: str
    numbers: dict[str, tuple[float, ...]]


def _outcome(run: RunDirectory) -> _Outcome:
    from vswin.training.checkpoint import examine

    steps = [
        (entry.step, tuple(sorted((name, value) for name, value in entry.metrics.items() if name.startswith(_OWN))))
        for entry, _ in journal.read(run.journal)
    ]
    scores = {}
    numbers: dict[str, tuple[float, ...]] = {}
    for result in run.results():
        with np.load(result.with_suffix(".npz")) as archive:
            scores[result.stem] = b"".join(archive[name].tobytes() for name in sorted(archive.files))
        record = load(result)
        numbers[result.stem] = (record.top1, record.top5, record.class_accuracy, record.provenance.steps or 0)
    newest = examine(max(run.checkpoints.glob("step-*.safetensors")))
    weights = b"".join(newest.weights[name].numpy().tobytes() for name in sorted(newest.weights))
    return _Outcome(tuple(steps), scores, weights.hex(), numbers)


def _check(figures: Figures, expected: dict[Run, _Outcome]) -> None:
    """Compare every run with the undisturbed one, and MLflow with the journals."""
    undisturbed = {(run.signature, run.seed): outcome for run, outcome in expected.items()}
    for run in _runs():
        figures.runs += 1
        if run.state() is not RunState.DONE:
            figures.problems.append(f"{run.name} is {run.state()} after an ordinary launch")
            continue
        found, whole = _outcome(run.directory), undisturbed[run.signature, run.seed]
        numbers = [step for step, _ in found.steps]
        figures.points += len(numbers)
        if numbers != list(range(1, len(numbers) + 1)):
            figures.problems.append(f"{run.name}: its journal has steps {numbers}")
        for what in ("steps", "scores", "weights", "numbers"):
            if getattr(found, what) != getattr(whole, what):
                figures.problems.append(f"{run.name}: its {what} are not those of the undisturbed run")
    figures.problems += [str(damage) for damage in verify_runs(_SCALE).damages]
    figures.problems += _differences_in_mlflow()


def _differences_in_mlflow() -> list[str]:
    """Runs of which MLflow has not exactly the points of the journal, or not exactly one run."""
    problems = []
    with closing(sqlite3.connect(folders.runs() / "mlflow.db")) as database:
        for run in _runs():
            rows = database.execute(
                "SELECT run_uuid FROM runs WHERE lifecycle_stage = 'active' AND run_uuid IN (SELECT run_uuid FROM tags "
                "WHERE key = 'signature' AND value = ?) AND run_uuid IN (SELECT run_uuid FROM tags WHERE key = 'seed' "
                "AND value = ?)",
                (run.signature, str(run.seed)),
            ).fetchall()
            if len(rows) != 1:
                problems.append(f"{run.name}: {len(rows)} runs in MLflow")
                continue
            points = database.execute("SELECT key, step, value FROM metrics WHERE run_uuid = ?", rows[0]).fetchall()
            told = Counter((name, step, value) for name, step, value in points)
            wanted = Counter(
                (name, entry.step, value)
                for entry, _ in journal.read(run.directory.journal)
                for name, value in entry.metrics.items()
            )
            if told != wanted:
                problems.append(
                    f"{run.name}: {(wanted - told).total()} points lack in MLflow, {(told - wanted).total()} more"
                )
    return problems


def main() -> None:
    """Torture, print the figures, and keep them."""
    parser = argparse.ArgumentParser(prog="python -m experiments.tools.torture")
    parser.add_argument("--kills", type=int, default=200, help="how many faults")
    parser.add_argument("--minutes", type=float, default=24 * 60.0, help="no round begins after so many")
    parser.add_argument("--seed", type=int, default=0, help="decides them")
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vswin-torture-") as folder:
        figures = torture(
            kills=arguments.kills,
            seed=arguments.seed,
            minutes=arguments.minutes,
            folder=Path(folder),
            say=lambda line: print(line, flush=True),
        )
    code = provenance.commit()
    report = {
        "commit": code.name,
        "dirty": code.dirty,
        "machine": f"{provenance.processor()}, {os.cpu_count()} cores",
        "seed": arguments.seed,
        "minutes": round((time.monotonic() - began) / 60, 1),
        "kills": figures.kills,
        "faults": dict(sorted(figures.faults.items())),
        "errors": dict(sorted(figures.errors.items())),
        **{name: getattr(figures, name) for name in ("rounds", "runs", "attempts", "launches", "points", "problems")},
    }
    target = folders.results() / "torture" / f"{time.strftime('%Y-%m-%d')}.json"
    write_json(target, report)
    for name, count in sorted(figures.faults.items()):
        print(f"{count:5} {name}")
    print(
        f"{figures.kills} faults, {figures.runs} runs compared to the bit, {len(figures.problems)} problems; {target}"
    )
    for problem in figures.problems:
        print(problem)
    sys.exit(bool(figures.problems))


if __name__ == "__main__":
    main()
