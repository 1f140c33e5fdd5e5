"""What is submitted to Slurm, and when: profiles, arrays, pinned code. No Slurm is needed."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.job import provenance
from experiments.launch import pinned
from experiments.launch.cluster import arrays, submittable
from experiments.launch.executors import slurm_parameters
from experiments.launch.plan import Action, Step
from experiments.launch.profiles import Profile, ProfileError, find_profile, profiles
from experiments.registry.catalogue import experiments, find_table
from experiments.registry.errors import UnknownNameError
from experiments.registry.own_tables import OwnTableError
from experiments.registry.recipe import Scale
from experiments.runs.run import Run
from tests.support.command_line import Vswin

EXPERIMENTS = experiments(Scale.TINY, [find_table("table4"), find_table("table6")])


def steps(count: int, action: Action = Action.SUBMIT, waits_for: tuple[Run, ...] = ()) -> list[Step]:
    return [
        Step(Run(EXPERIMENTS[index % len(EXPERIMENTS)], index // len(EXPERIMENTS)), action, "", waits_for)
        for index in range(count)
    ]


# ------------------------------------------------------------------------------------------------------- profiles


@pytest.fixture
def own_profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "profiles.toml"
    monkeypatch.setenv("VSWIN_PROFILES", str(file))
    return file


def test_own_profiles_go_before_those_of_the_suite(own_profiles: Path) -> None:
    own_profiles.write_text('[dev]\ntime = "1-0"\n[gpu]\ntime = "8:00:00"\ngpus = 8\nnodes = 2\nsetup = ["a", "b"]\n')
    assert profiles()[0] == "local"
    assert find_profile("local") is None
    assert find_profile("dev") == Profile(time="1-0")
    profile = find_profile("gpu")
    assert profile == Profile(time="8:00:00", gpus=8, nodes=2, setup=("a", "b"))
    assert (profile.minutes, profile.processes_per_node, profile.processes_per_run) == (480, 8, 16)
    with pytest.raises(UnknownNameError, match="did you mean 'gpu'"):
        find_profile("gpus")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[a]\n", "profile a: time: Field required"),
        ('[a]\ntime = "10"\npartiton = "gpu"\n', "profile a: partiton: no such field; did you mean partition"),
        ("[a]\ntime = 10\n", "profile a: time: Input should be a valid string"),
        ('[a]\ntime = "10"\nnodes = "2"\n', "profile a: nodes: Input should be a valid integer"),
        ('[a]\ntime = "soon"\n', "profile a: time: expected Slurm's notation"),
        ('[a]\ntime = "10"\nzzz = 1\n', "profile a: zzz: no such field; there are: time, partition, "),
        ('[a]\ntime = "10"\nmemory = "64 GB"\n', "profile a: memory: expected Slurm's notation, as in 400G"),
        ('[a]\ntime = "10"\npartition = "a\\n#SBATCH --uid=0"\n', "profile a: partition: expected one line of text"),
        ('[a]\ntime = "10"\nsetup = ["a\\nb"]\n', "profile a: setup: expected one line of text"),
        ('[a]\ntime = "10"\noptions = { exclude = "a\\nb" }\n', "profile a: options: expected one line of text"),
        ('[a]\ntime = "10"\nnodes = 0\n', "profile a: nodes: expected at least 1, got 0"),
        ('[a]\ntime = "10"\nsignal_seconds = 70000\n', "profile a: signal_seconds: expected at most 65535, got 70000"),
        ('[a]\ntime = "10"\ngpus = 8\nprocesses = 4\n', "profile a: processes: with 8 GPUs there are as many"),
        ('[a]\ntime = "10"\ngpu_type = "a100"\n', "profile a: gpu_type: set gpus, too"),
        ('[a]\ntime = "10"\noptions = { mem = "5GB" }\n', "profile a: options: mem is set by the fields"),
        ("[a\n", "profiles.toml: Expected"),
        ("a = 1\n", "expected a table per profile"),
        ("[local]\nnodes = 2\n", "takes no fields, got nodes"),
    ],
)
def test_what_a_profile_may_not_say(own_profiles: Path, text: str, complaint: str) -> None:
    own_profiles.write_text(text)
    with pytest.raises(ProfileError, match=complaint):
        find_profile("local" if "local" in text else "a")


@pytest.mark.parametrize("memory", ["400G", "400GB", "500M", "64gb", "1T", "2000000K", "8000", "0"])
def test_memory_is_written_as_slurm_does(memory: str) -> None:
    assert Profile(time="1", memory=memory).memory == memory


@pytest.mark.parametrize(
    ("time", "minutes"),
    [("30", 30), ("30:01", 31), ("8:00:00", 480), ("2-0", 2880), ("1-12", 2160), ("1-12:30", 2190), ("0:30:00", 30)],
)
def test_times_are_those_of_slurm(time: str, minutes: int) -> None:
    assert Profile(time=time).minutes == minutes


# --------------------------------------------------------------------------------------------------------- arrays


def test_runs_are_packed_into_jobs_and_jobs_into_arrays() -> None:
    [only] = arrays(steps(5), runs_per_job=1, longest=None, parallel=None)
    assert [len(job) for job in only.jobs] == [1] * 5
    found = arrays(steps(11), runs_per_job=2, longest=4, parallel=None)
    assert [[len(job) for job in array.jobs] for array in found] == [[2, 2, 2, 2], [2, 1]]
    assert [step for array in found for job in array.jobs for step in job] == steps(11)


def test_a_limit_makes_one_array_of_all_groups() -> None:
    """Slurm keeps exactly so many elements of an array busy, whatever each of them waits for."""
    first, second, *rest = steps(9)
    waiting = [Step(step.run, Action.BLOCKED, "", ((first, second)[index % 2].run,)) for index, step in enumerate(rest)]
    [array] = arrays([first, second, *waiting], runs_per_job=1, longest=None, parallel=4)
    assert (array.parallel, array.waits_alike) == (4, False)
    # in the order of the plan, so that every variant has a first result early
    assert array.steps == [first, second, *waiting]
    assert array.waits_for == ((), (), *(step.waits_for for step in waiting))
    assert array.first(3).waits_for == ((), (), waiting[0].waits_for)
    # as many sbatch calls as ever without a limit
    found = arrays([first, second, *waiting], runs_per_job=1, longest=None, parallel=None)
    assert [len(each.jobs) for each in found] == [1, 1, 4, 3]
    assert all(each.waits_alike for each in found)
    assert arrays([], runs_per_job=1, longest=None, parallel=4) == []


def test_arrays_that_hold_a_limit_follow_one_another() -> None:
    found = arrays(steps(12), runs_per_job=1, longest=5, parallel=3)
    assert [(len(each.jobs), each.parallel, each.after) for each in found] == [(5, 3, None), (5, 3, 0), (2, 3, 1)]
    # without arrays, three single jobs side by side
    found = arrays(steps(5), runs_per_job=1, longest=1, parallel=3)
    assert [(len(each.jobs), each.after) for each in found] == [(1, None), (1, None), (1, None), (1, 0), (1, 1)]


def test_what_others_wait_for_has_a_job_of_its_own() -> None:
    source, *rest = steps(5)
    waiting = [Step(step.run, Action.BLOCKED, "", (source.run,)) for step in rest]
    first, second = arrays([source, *waiting], runs_per_job=4, longest=None, parallel=None)
    assert (first.jobs, first.waits_for) == (((source,),), ((),))
    assert (second.jobs, second.waits_for) == ((tuple(waiting),), ((source.run,),))


def test_what_waits_for_a_failed_run_is_not_submitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSWIN_RUNS", str(tmp_path))
    source, dependant = steps(2)
    blocked = Step(dependant.run, Action.BLOCKED, "", (source.run,))
    assert submittable([source, blocked]) == [source, blocked]
    failed = Step(source.run, Action.FAILED, "")
    assert submittable([failed, blocked]) == []


def test_a_line_of_setup_that_fails_ends_the_job_and_is_named(tmp_path: Path) -> None:
    def job(*setup: str) -> subprocess.CompletedProcess[str]:
        profile = Profile(time="1", setup=setup)
        parameters = slurm_parameters(profile, name="n", comment="", dependency="", code=tmp_path)
        script = "\n".join([*parameters["setup"], "false", "echo the run"])
        return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)

    failed = job("export A=1", "[ -n $A ] && ls /nowhere", "echo not reached")
    assert (failed.returncode, failed.stdout) == (1, "vswin: this line of setup failed: ls /nowhere\n")
    # what fails without harm may, and nothing is said of what comes after the setup
    fine = job("ls /nowhere || true", "if [ -e /nowhere ]; then", "ls /nowhere; fi")
    assert (fine.returncode, fine.stdout) == (0, "the run\n")


# -------------------------------------------------------------------------------------------------------- dry run


def test_dry_run_needs_nothing_and_says_what_is_missing(
    vswin: Vswin, own_profiles: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_profiles.write_text(
        '[gpu]\npartition = "a100"\naccount = "me"\nqos = "low"\nconstraint = "80gb"\nnodes = 2\ngpus = 4\ncpus = 6\n'
        'memory = "64GB"\ntime = "2-0"\nsetup = ["module load cuda"]\nparallel = 2\nrequeue = false\n'
        'gpu_type = "a100"\noptions = { exclude = "node7", exclusive = true }\n'
    )
    (tmp_path / "my tables").mkdir()
    monkeypatch.setenv("VSWIN_TABLES", os.path.relpath(tmp_path / "my tables", home))
    git = tmp_path / "bin" / "git"
    git.parent.mkdir()
    git.symlink_to(subprocess.run(["which", "git"], capture_output=True, text=True, check=True).stdout.strip())
    monkeypatch.setenv("PATH", str(git.parent))
    monkeypatch.setenv("VSWIN_DATA", str(tmp_path / "none"))
    said = vswin("launch", "table4", "--scale", "tiny", "--on", "gpu", "--dry-run", "--allow-dirty", code=1).stdout
    flags = {line.removeprefix("#SBATCH --") for line in said.splitlines() if line.startswith("#SBATCH")}
    assert {
        "partition=a100", "account=me", "qos=low", "constraint=80gb", "nodes=2", "gpus-per-node=a100:4",
        "ntasks-per-node=4", "cpus-per-task=6", "mem=64GB", "time=2880", "array=0-8%2", "no-requeue",
        "signal=USR2@120", "exclude=node7", "exclusive",
    } <= flags  # fmt: skip
    # nothing is waited for
    assert not any(flag.startswith(("dependency", "kill-on-invalid-dep")) for flag in flags)
    # a site that keeps workload keys knows none of submitit's
    assert not any(flag.startswith("wckey") for flag in flags)
    lines = said.splitlines()
    # jobs are in another folder
    assert f"export VSWIN_TABLES={home / 'runs' / 'code' / 'tables-'}" in said
    # first of all, what it comes to
    assert lines[0] == "would submit 9 jobs to gpu by 1 sbatch call, 2 at once"
    assert lines.index("module load cuda") < lines.index("export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK")
    missing = said.partition("missing\n")[2]
    assert "sbatch, srun, squeue: not on this machine" in missing
    assert "vswin data generate" in missing
    assert not (tmp_path / "runs" / "code").exists()


def test_dry_run_says_what_a_profile_cannot_do(vswin: Vswin, own_profiles: Path) -> None:
    own_profiles.write_text('[cpu]\ntime = "10"\n')
    said = vswin("launch", "table4", "--scale", "paper", "--on", "cpu", "--dry-run", "--allow-dirty", code=1).stdout
    assert "cpu: scale paper needs a GPU: set gpus in the profile" in said.partition("missing\n")[2]


def test_gpus_of_a_cluster_that_knows_gres_only() -> None:
    assert Profile(time="10", gpus=8).gpus_per_node == "8"
    assert Profile(time="10", gpus=8, options={"gres": "gpu:a100:8"}).gpus_per_node is None
    assert Profile(time="10", gpus=8, options={"gres": "lscratch:100"}).gpus_per_node == "8"


# ---------------------------------------------------------------------------------------------------- pinned code


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of a small project, in place of the suite's own."""
    folder = tmp_path / "clone"
    for package in ("vswin", "experiments"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text("VALUE = 1\n")
    for name in ("pyproject.toml", "constraints.txt", "README.md"):
        (folder / name).touch()
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message=first")
    monkeypatch.setattr(provenance, "CLONE", folder)
    monkeypatch.setenv("VSWIN_RUNS", str(tmp_path / "runs"))
    return folder


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", folder, *arguments], check=True, capture_output=True, text=True).stdout


def test_code_is_pinned_to_its_commit(clone: Path) -> None:
    (clone / "README.md").write_text("edited")
    place = pinned.pin(allow_dirty=False)
    commit = git(clone, "rev-parse", "HEAD").strip()
    assert place.name == git(place, "rev-parse", "HEAD").strip() == commit
    assert not git(place, "status", "--porcelain", "--", "vswin", "experiments")
    file = place / "vswin" / "__init__.py"
    assert (file.read_text(), file.stat().st_mode & 0o222) == ("VALUE = 1\n", 0)
    made = place.stat().st_mtime_ns
    assert pinned.pin(allow_dirty=True) == place
    assert place.stat().st_mtime_ns == made


def test_uncommitted_code_is_refused_or_goes_along(clone: Path) -> None:
    (clone / "vswin" / "__init__.py").write_text("VALUE = 2\n")
    (clone / "vswin" / "new.py").write_text("NEW = 1\n")
    before = git(clone, "status", "--porcelain")
    with pytest.raises(pinned.UncommittedCodeError, match=r"vswin/__init__.py, vswin/new.py; commit it, or .* --allow"):
        pinned.pin(allow_dirty=False)
    place = pinned.pin(allow_dirty=True)
    assert (place / "vswin" / "__init__.py").read_text() == "VALUE = 2\n"
    assert (place / "vswin" / "new.py").read_text() == "NEW = 1\n"
    assert git(clone, "status", "--porcelain") == before
    # a job sees the same changes there
    changes = provenance.uncommitted()
    assert "+VALUE = 2" in changes
    provenance.CLONE = place
    assert provenance.commit().dirty
    assert provenance.uncommitted() == changes


@pytest.fixture
def other_file_system(clone: Path) -> Iterator[Path]:
    """A folder on another file system than the clone's: home and scratch of most clusters."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        if Path(folder).stat().st_dev == clone.stat().st_dev:
            pytest.skip("/dev/shm is no file system of its own here")
        yield Path(folder)


def test_code_is_pinned_on_another_file_system(
    clone: Path, other_file_system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VSWIN_RUNS", str(other_file_system / "runs"))
    place = pinned.pin(allow_dirty=False)
    assert place.is_relative_to(other_file_system)
    assert (place / "vswin" / "__init__.py").read_text() == (clone / "vswin" / "__init__.py").read_text()


@pytest.mark.parametrize("kind", ["worktree", "shallow"])
def test_worktrees_and_shallow_clones_are_pinned_like_others(
    clone: Path, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(clone, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--allow-empty", "--message=second")
    other = tmp_path / "an other"
    if kind == "worktree":
        git(clone, "worktree", "add", "--quiet", "--detach", str(other), "HEAD~")
    else:
        git(tmp_path, "clone", "--quiet", "--depth=1", clone.as_uri(), str(other))
    monkeypatch.setattr(provenance, "CLONE", other)
    (other / "vswin" / "__init__.py").write_text("VALUE = 3\n")
    place = pinned.pin(allow_dirty=True)
    assert place.name.startswith(git(other, "rev-parse", "HEAD").strip())
    assert (place / "vswin" / "__init__.py").read_text() == "VALUE = 3\n"


def test_outside_a_clone_there_is_nothing_to_pin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "CLONE", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(pinned.PinError, match="is no git clone"):
        pinned.pin(allow_dirty=True)


# ------------------------------------------------------------------------------------------ own tables, other nodes


def test_own_tables_are_pinned_by_what_is_in_them(clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pinned.pin_tables() is None
    own = tmp_path / "my tables"
    (own / "parts").mkdir(parents=True)
    (own / "mine.py").write_text("TABLE = 1\n")
    (own / "parts" / "common.py").write_text("LEARNING_RATE = 1\n")
    (own / ".mine.py.swp").write_text("an editor's")
    monkeypatch.setenv("VSWIN_TABLES", str(own))
    place = pinned.pin_tables()
    assert place is not None
    copies = {str(path.relative_to(place)): path.stat().st_mode & 0o222 for path in place.rglob("*.*")}
    assert copies == {"mine.py": 0, "parts/common.py": 0}
    # nothing reaches a job from then on; the next launch has a copy of its own
    (own / "parts" / "common.py").write_text("LEARNING_RATE = 2\n")
    again = pinned.pin_tables()
    assert again is not None
    assert again != place
    assert (place / "parts" / "common.py").read_text() == "LEARNING_RATE = 1\n"
    assert pinned.pin_tables() == again
    (own / "video.bin").write_bytes(bytes(65 << 20))
    with pytest.raises(OwnTableError, match="keep only tables there"):
        pinned.pin_tables()


@pytest.mark.parametrize("dirty", [False, True])
def test_a_node_without_git_records_what_the_launcher_knew(
    clone: Path, dirty: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if dirty:
        (clone / "vswin" / "new.py").write_text("NEW = 1\n")
    place = pinned.pin(allow_dirty=True)
    commit = git(clone, "rev-parse", "HEAD").strip()
    monkeypatch.setattr(provenance, "CLONE", place)
    known = provenance.commit(), provenance.uncommitted()
    assert known[0] == provenance.Commit(commit, dirty)
    assert ("+NEW = 1" in known[1]) is dirty
    monkeypatch.setenv("PATH", "/nowhere")
    assert (provenance.commit(), provenance.uncommitted()) == known
    # elsewhere nobody knew anything
    monkeypatch.setattr(provenance, "CLONE", clone)
    assert provenance.commit() == provenance.Commit("unknown", True)
