"""The development cluster does what a real one does to jobs, quickly enough for tests, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import cloudpickle
import pytest
import submitit

from tests.support.patience import eventually
from tests.support.slurm_cluster import SlurmCluster, dev_cluster, skip_without_slurm

pytestmark = pytest.mark.slow
pytest_plugins = ["tests.support.slurm_cluster"]

# a job does not find the test files
cloudpickle.register_pickle_by_value(sys.modules[__name__])

OVER_LIMIT = f"srun --mem=200M {sys.executable} -c 'import time; x = bytearray(600 << 20); time.sleep(60)'"


def executor(folder: Path, **parameters: object) -> submitit.SlurmExecutor:
    made = submitit.SlurmExecutor(folder)
    made.update_parameters(**{"time": 15, "mem": "500MB", "stderr_to_stdout": True, **parameters})
    return made


class Meet:
    """Returns its node's name once ``count`` jobs have met in ``folder``: they do if all run at the same time."""

    def __call__(self, folder: Path, count: int, number: int) -> tuple[int, str]:
        (folder / str(number)).touch()
        while len(list(folder.iterdir())) < count:
            time.sleep(0.1)
        return number, os.environ["SLURMD_NODENAME"]


class Resumable:
    """Counts its starts in ``notes``; the first waits to be stopped, a later one returns what ``notes`` says."""

    def __call__(self, notes: Path) -> list[str]:
        restarts = os.environ.get("SLURM_RESTART_COUNT", "0")
        with notes.open("a") as file:
            print(f"start {restarts}", file=file)
        while restarts == "0":
            time.sleep(0.1)
        return notes.read_text().splitlines()

    def checkpoint(self, notes: Path) -> submitit.helpers.DelayedSubmission:
        with notes.open("a") as file:
            print("checkpoint", file=file)
        return submitit.helpers.DelayedSubmission(self, notes)


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


def started(notes: Path) -> bool:
    return notes.exists()


# ------------------------------------------------------------------------------------------------ what jobs can do


def test_srun_reaches_two_nodes(slurm_cluster: SlurmCluster) -> None:
    assert set(slurm_cluster.call("srun", "-N2", "printenv", "SLURMD_NODENAME").split()) == {"node1", "node2"}


def test_array_runs_on_both_nodes_at_once(slurm_cluster: SlurmCluster, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    jobs = executor(tmp_path / "jobs").map_array(Meet(), [place] * 4, [4] * 4, range(4))
    results = [job.result() for job in jobs]
    assert [number for number, _ in results] == [0, 1, 2, 3]
    assert sorted(node for _, node in results) == ["node1", "node1", "node2", "node2"]
    for job in jobs:
        slurm_cluster.wait(job.job_id, "COMPLETED")


def test_array_longer_than_the_limit_is_refused(slurm_cluster: SlurmCluster, tmp_path: Path) -> None:
    assert "MaxArraySize            = 20" in slurm_cluster.call("scontrol", "show", "config")
    with pytest.raises(submitit.core.utils.FailedJobError, match="Invalid job array specification"):
        executor(tmp_path).map_array(abs, range(21))


def test_account_and_partition_that_do_not_exist_are_refused(slurm_cluster: SlurmCluster, tmp_path: Path) -> None:
    for wrong in ({"account": "nobody"}, {"partition": "nowhere"}, {"qos": "none"}, {"constraint": "tpu"}):
        with pytest.raises(submitit.core.utils.FailedJobError, match=r"[Ii]nvalid"):
            executor(tmp_path, **wrong).submit(abs, 1)
    right = {"account": "vswin", "partition": "urgent", "qos": "low", "constraint": "dev", "gpus_per_node": 1}
    assert executor(tmp_path, **right).submit(abs, -1).result() == 1


def test_torch_reduces_over_two_nodes(slurm_cluster: SlurmCluster, tmp_path: Path) -> None:
    """The nodes' names resolve nowhere; the address that every task of a step is told is enough."""
    script = tmp_path / "reduce.py"
    script.write_text(
        "import os, torch, torch.distributed as dist\n"
        'address = f\'tcp://{os.environ["SLURM_LAUNCH_NODE_IPADDR"]}:{os.environ["PORT"]}\'\n'
        "rank, size = int(os.environ['SLURM_PROCID']), int(os.environ['SLURM_NTASKS'])\n"
        "dist.init_process_group('gloo', init_method=address, rank=rank, world_size=size)\n"
        "total = torch.tensor(rank + 1)\n"
        "dist.all_reduce(total)\n"
        "print(os.environ['SLURMD_NODENAME'], rank, total.item())\n"
        "dist.destroy_process_group()\n"
    )
    output = tmp_path / "output"
    job = slurm_cluster.submit(
        f"PORT=$((20000 + SLURM_JOB_ID % 10000)) srun {sys.executable} {script}", "-N2", output=output
    )
    slurm_cluster.wait(job, "COMPLETED")
    assert sorted(output.read_text().splitlines()) == ["node1 0 3", "node2 1 3"]


# ------------------------------------------------------------------------------------------- what happens to jobs


def test_requeued_job_starts_again_soon(slurm_cluster: SlurmCluster, tmp_path: Path, notes: Path) -> None:
    job = executor(tmp_path).submit(Resumable(), notes)
    eventually("the job runs", lambda: started(notes))
    slurm_cluster.call("scontrol", "requeue", job.job_id)
    assert job.result() == ["start 0", "start 1"]
    first, second = slurm_cluster.wait(job.job_id, "REQUEUED", "COMPLETED")
    assert first.end is not None
    assert second.start is not None
    # by default Slurm lets two minutes pass, however idle the machine
    assert second.start - first.end < timedelta(minutes=1)


def test_signal_checkpoints_and_requeues(slurm_cluster: SlurmCluster, tmp_path: Path, notes: Path) -> None:
    job = executor(tmp_path).submit(Resumable(), notes)
    eventually("the job runs", lambda: started(notes))
    slurm_cluster.call("scancel", "--signal=USR2", job.job_id)
    assert job.result() == ["start 0", "checkpoint", "start 1"]
    slurm_cluster.wait(job.job_id, "REQUEUED", "COMPLETED")


def test_job_of_higher_priority_preempts(slurm_cluster: SlurmCluster, tmp_path: Path, notes: Path) -> None:
    job = executor(tmp_path, partition="main", exclusive=True, nodelist="node1").submit(Resumable(), notes)
    eventually("the job runs", lambda: started(notes))
    urgent = slurm_cluster.submit("true", "--partition=urgent", "--nodelist=node1", output=tmp_path / "urgent")
    assert job.result() == ["start 0", "checkpoint", "start 1"]
    slurm_cluster.wait(urgent, "COMPLETED")
    slurm_cluster.wait(job.job_id, "REQUEUED", "COMPLETED")


def test_job_of_a_lost_node_runs_on_the_other(slurm_cluster: SlurmCluster, tmp_path: Path, notes: Path) -> None:
    job = executor(tmp_path).submit(Resumable(), notes)
    eventually("the job runs", lambda: started(notes))
    (first,) = slurm_cluster.wait(job.job_id, "RUNNING")
    slurm_cluster.call("scontrol", "update", f"nodename={first.nodes}", "state=down", "reason=test")
    try:
        assert f"{first.nodes} is down" in dev_cluster(slurm_cluster.folder, "status", code=1)
        # no reason to start anew, and to lose the jobs
        assert f"{first.nodes} is down" in dev_cluster(slurm_cluster.folder, "up", code=1)
        # until the job is somewhere else submitit takes it for ended, without a result
        _, second = slurm_cluster.wait(job.job_id, "NODE_FAIL", "COMPLETED")
        assert job.result() == ["start 0", "start 1"]
        assert {first.nodes, second.nodes} == {"node1", "node2"}
    finally:
        slurm_cluster.call("scontrol", "update", f"nodename={first.nodes}", "state=resume")
    eventually("both nodes idle", lambda: slurm_cluster.call("sinfo", "-hNp", "main", "-t", "idle").count("\n") == 2)


def test_time_limit(slurm_cluster: SlurmCluster, tmp_path: Path, notes: Path) -> None:
    # a limit is a minute at least, but the end of a running job can be moved
    job = executor(tmp_path, signal_delay_s=0).submit(Resumable(), notes)
    eventually("the job runs", lambda: started(notes))
    soon = (datetime.now() + timedelta(seconds=2)).isoformat(timespec="seconds")
    slurm_cluster.call("scontrol", "update", f"jobid={job.job_id}", f"endtime={soon}")
    slurm_cluster.wait(job.job_id, "TIMEOUT")


def test_memory_limit_of_the_kernel(slurm_cluster: SlurmCluster, tmp_path: Path) -> None:
    if not (slurm_cluster.folder / "cgroup.conf").exists():
        pytest.skip("no memory controller of cgroup v1 on this machine")
    output = tmp_path / "output"
    job = slurm_cluster.submit(OVER_LIMIT, "--mem=200M", output=output)
    slurm_cluster.wait(job, "FAILED")
    assert slurm_cluster.steps(job)["0"] == "OUT_OF_MEMORY"
    assert "oom-kill event" in output.read_text()


# ------------------------------------------------------------------------------------------------------ up and down


@pytest.fixture
def own_folder(tmp_path: Path) -> Iterator[Path]:
    """For a cluster beside that of the session."""
    skip_without_slurm()
    folder = tmp_path / "cluster"
    yield folder
    if (folder / "pids").exists():
        dev_cluster(folder, "down")


def processes_with(text: str) -> dict[int, str]:
    """Processes that have ``text`` in their command line or environment, but not this one."""
    found = {}
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                words = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
                command = (process / "comm").read_text().strip()
            except OSError:
                continue
            if text.encode() in words:
                found[int(process.name)] = command
    return found


def outside() -> set[str]:
    """What a cluster might leave on a machine outside its folder. Others may work here: what goes, goes by them."""
    places = ("/etc", "/etc/slurm", "/etc/munge", "/run", "/run/munge", "/var/log", "/var/spool", "/var/lib", "/root")
    entries = {str(entry) for place in places if Path(place).is_dir() for entry in Path(place).iterdir()}
    lines = {*Path("/proc/mounts").read_text().splitlines(), *Path("/etc/hosts").read_text().splitlines()}
    return entries | lines


def test_life_of_a_cluster(own_folder: Path, tmp_path: Path) -> None:
    before = outside()
    dev_cluster(own_folder, "status", code=1)
    assert f"--folder {own_folder} up" in dev_cluster(own_folder, "env", code=1)

    said = dev_cluster(own_folder, "up", "--no-cgroup")
    assert said == dev_cluster(own_folder, "env") == f"export SLURM_CONF={own_folder}/slurm.conf\n"
    pids = {file.name: file.read_text() for file in (own_folder / "pids").iterdir()}
    assert pids.keys() == {"munged", "mariadbd", "slurmdbd", "slurmctld", "node1", "node2"}
    dev_cluster(own_folder, "up")
    assert {file.name: file.read_text() for file in (own_folder / "pids").iterdir()} == pids
    assert "both nodes take jobs" in dev_cluster(own_folder, "status")

    # no kernel to hold a job to its memory: Slurm sees it a second later
    output = tmp_path / "output"
    dev_cluster(own_folder, "run", "--", "sbatch", "--wait", f"--output={output}", f"--wrap={OVER_LIMIT}", code=137)
    assert "exceeded memory limit" in output.read_text()

    # a job that outlives its cluster, one that hides from it, and every daemon dead
    script = f"env -i setsid tail -f /dev/null {own_folder}/slurm.conf & srun sleep 1000"
    dev_cluster(own_folder, "run", "--", "sbatch", "--output=/dev/null", f"--wrap={script}")
    eventually("the job runs", lambda: {"sleep", "tail"} <= set(processes_with(str(own_folder)).values()))
    os.kill(int(pids["slurmctld"]), signal.SIGKILL)
    assert "slurmctld does not run\nnode1     runs" in dev_cluster(own_folder, "status", code=1)
    for pid in (pid for name, pid in pids.items() if name != "slurmctld"):
        os.kill(int(pid), signal.SIGKILL)
    left = processes_with(str(own_folder))
    assert {"sleep", "tail"} <= set(left.values())
    dev_cluster(own_folder, "up", "--no-cgroup")
    assert not left.keys() & processes_with(str(own_folder)).keys()
    assert "node2" in dev_cluster(own_folder, "run", "--", "srun", "-N2", "printenv", "SLURMD_NODENAME")
    dev_cluster(own_folder, "run", "--", "false", code=1)

    dev_cluster(own_folder, "down")
    dev_cluster(own_folder, "down")
    assert not own_folder.exists()
    assert not processes_with(str(own_folder))
    assert not outside() - before


def test_down_leaves_folders_of_others_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis").touch()
    assert "not a folder of this command" in dev_cluster(tmp_path, "down", code=1)
    assert (tmp_path / "thesis").exists()


def test_up_names_what_is_missing(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "apt-get install" in dev_cluster(own_folder, "up", code=1)
    assert not own_folder.exists()


def test_up_shows_the_line_that_says_why(own_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that does not start: here slurmctld, told to use a plugin that does not exist."""
    broken = tmp_path / "bin" / "slurmctld"
    broken.parent.mkdir()
    slurmctld = shutil.which("slurmctld")
    broken.write_text(f'#!/bin/sh\necho SchedulerType=sched/none >> "$SLURM_CONF"\nexec {slurmctld} "$@"\n')
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken.parent}:{os.environ['PATH']}")
    said = dev_cluster(own_folder, "up", code=1)
    assert "slurmctld died" in said
    assert "sched/none" in said
    assert not processes_with(str(own_folder))
