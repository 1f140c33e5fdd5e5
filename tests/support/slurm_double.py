"""A Slurm that is not there: commands of its names on PATH that keep jobs in a file, and misbehave as they are told.

It answers in the layouts of Slurm 22.05, as far as vswin asks. Nothing is ever computed. What the real one does is
tested on slurm/dev-cluster; here are the times when it does not answer, answers too late, or only in part.

PYTEST_DONT_REWRITE: test files import this one before pytest takes it as a plugin.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from experiments.runs import slurm

COMMANDS = ("sbatch", "squeue", "sacct", "scancel", "scontrol", "srun")

_PROGRAM = r'''
import json, re, sys, time
from pathlib import Path

me, arguments = Path(sys.argv[0]).name, sys.argv[1:]
folder = Path(sys.argv[0]).parent.parent
file = folder / "state.json"
state = json.loads(file.read_text())
with (folder / "calls").open("a") as calls:
    print(me, *arguments, file=calls)
fault = state["faults"].get(me, "")
options = dict(word.partition("=")[::2] for word in arguments)

def fail(text):
    print(text, file=sys.stderr)
    sys.exit(1)

def element(job, index):
    return f"{job['id']}_{index}" if job["array"] else job["id"]

def elements():
    for job in state["jobs"]:
        if me == "sacct" and not state["accounting"]:
            continue
        if "--jobs" in options and job["id"] not in options["--jobs"].split(","):
            continue
        if "--name" in options and job["name"] != options["--name"]:
            continue
        for index, each in enumerate(job["elements"]):
            if me == "squeue" and "--states" not in options and each["squeue"] not in ("PENDING", "RUNNING"):
                continue
            known = each["squeue" if me == "squeue" else "sacct"]
            if known:
                yield {**each, "state": known, "id": element(job, index), "array_id": job["id"], "name": job["name"],
                       "folder": job["folder"]}

def sbatch():
    test = "--test-only" in arguments
    script = sys.stdin.read() if test else Path(arguments[-1]).read_text()
    flags = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", script, re.MULTILINE))
    count = int(re.match(r"0-(\d+)", flags["array"])[1]) + 1 if "array" in flags else 1
    number = str(state["next"])
    live = sum(each["squeue"] in ("PENDING", "RUNNING") for job in state["jobs"] for each in job["elements"])
    memory = re.match(r"(\d+)([MGT])", flags.get("mem", "1G"))
    failed = "allocation failure: " if test else "sbatch: error: Batch job submission failed: "
    kept = None
    if flags.get("partition", "main") != "main":
        kept = "Invalid partition name specified", False
    elif int(memory[1]) * {"M": 1 / 1024, "G": 1, "T": 1024}[memory[2]] > state["memory"]:
        kept = "Requested node configuration is not available", True
    elif state["submit_limit"] is not None and live + count > state["submit_limit"]:
        print("sbatch: error: AssocMaxSubmitJobLimit", file=sys.stderr)
        kept = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)", False
    # a refused job that could never run stays in the queue for a while
    if test:
        if kept:
            fail(failed + kept[0])
        fail_or_start = f"sbatch: Job {number} to start at 2026-12-01T04:41:09 using 1 processors on nodes node1"
        print(fail_or_start, file=sys.stderr)
        return
    state["next"] += 1
    if fault == "refuse":
        kept = "Requested node configuration is not available", True
    if not kept or kept[1]:
        now = "FAILED" if kept else "PENDING"
        reason = "BadConstraints" if kept else "JobHeldUser" if "hold" in flags else "Priority"
        one = {"squeue": now, "sacct": now, "reason": reason, "node": "", "dependency": flags.get("dependency", "")}
        state["jobs"].append(
            {"id": number, "name": flags["job-name"], "array": "array" in flags, "script": script,
             "folder": flags.get("chdir", "/"),
             "elements": [dict(one) for _ in range(count)]}
        )
    file.write_text(json.dumps(state))
    if fault == "late":
        fail(failed + "Socket timed out on send/recv operation")
    if kept:
        fail(failed + kept[0])
    print(f"Submitted batch job {number}")

def squeue():
    lines = []
    for each in elements():
        if "--format" in options:
            lines.append({"%r": each["reason"], "%T": each["state"]}[options["--format"]])
            continue
        values = {
            "JobArrayID": each["id"], "ArrayJobID": each["array_id"], "State": each["state"], "Reason": each["reason"],
            "RestartCnt": "0", "exit_code": "0", "DerivedEC": "0", "NodeList": each["node"], "Name": each["name"],
            "WorkDir": each["folder"],
        }
        fields = (field.split(":") for field in options["--Format"].split(","))
        lines.append("".join(values[name].ljust(int(width)) for name, width in fields))
    answer = "".join(f"{line}\n" for line in lines)
    sys.stdout.write(answer[:-100] if fault == "truncate" else answer)

def sacct():
    if not state["accounting"]:
        fail("Slurm accounting storage is disabled")
    for each in elements():
        values = {
            "JobID": each["id"], "State": each["state"], "ExitCode": "0:0", "DerivedExitCode": "0:0",
            "NodeList": each["node"] or "None assigned",
        }
        line = "|".join(values[name] for name in options["--format"].split(","))
        print(line[: len(line) // 2] if fault == "truncate" else line)

def named(text):
    """The elements that 7, 7_1 or 7_[1-3,5] stands for."""
    number, _, some = text.partition("_")
    parts = [part.split("-") for part in some.strip("[]").split(",") if part]
    wanted = {index for part in parts for index in range(int(part[0]), int(part[-1]) + 1)}
    for job in state["jobs"]:
        if job["id"] == number:
            yield from (each for index, each in enumerate(job["elements"]) if not wanted or index in wanted)

def scancel():
    for text in arguments:
        for each in named(text):
            each["squeue"] = each["sacct"] = "CANCELLED"

def scontrol():
    if arguments[:2] == ["show", "config"]:
        print("MaxArraySize            = 1001")
    elif "partition" in arguments:
        print(f"PartitionName=main Default=YES MaxTime={state['max_time']}")
    elif arguments[0] == "update":
        for each in named(options["JobId"]):
            each["dependency"] = options["Dependency"]
    elif arguments[0] == "release":
        for each in named(arguments[1]):
            each["reason"] = "Priority"

if fault == "hang":
    time.sleep(60)
elif fault.startswith("only "):
    # one of the things that scontrol does
    if arguments[0] == fault.removeprefix("only "):
        fail(f"{fault}: Unable to contact slurm controller")
elif fault not in ("", "truncate", "late", "refuse"):
    fail(fault)
{"sbatch": sbatch, "squeue": squeue, "sacct": sacct, "scancel": scancel, "scontrol": scontrol}.get(me, exit)()
if me in ("scancel", "scontrol"):
    file.write_text(json.dumps(state))
'''


class SlurmDouble:
    """The double of one test: what its commands answer, and what they were asked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "bin").mkdir(parents=True)
        for name in COMMANDS:
            program = folder / "bin" / name
            program.write_text(f"#!{sys.executable} -I\n{_PROGRAM}")
            program.chmod(0o755)
        self._write(
            {
                **{"next": 100, "jobs": [], "faults": {}, "accounting": True},
                **{"memory": 8, "submit_limit": None, "max_time": "1-00:00:00"},
            }
        )

    @property
    def programs(self) -> Path:
        """The folder of its commands, for PATH."""
        return self._folder / "bin"

    def _read(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self._folder / "state.json").read_text())
        return content

    def _write(self, state: dict[str, Any]) -> None:
        (self._folder / "state.json").write_text(json.dumps(state))

    def has(self, **settings: object) -> None:
        """Set ``memory`` of a node in GB, ``submit_limit``, ``max_time``, or whether there is ``accounting``."""
        self._write({**self._read(), **settings})

    def fault(self, command: str, kind: str) -> None:
        """Have ``command`` ``hang``, ``truncate`` its answer, be ``late`` or ``refuse``, else fail with ``kind``.

        ``only update`` has scontrol fail at that.
        """
        state = self._read()
        state["faults"][command] = kind
        self._write(state)

    def mend(self) -> None:
        """Have every command behave again."""
        self._write({**self._read(), "faults": {}})

    def stand(self, job: str, *, squeue: str, sacct: str, node: str = "node1") -> None:
        """Have ``squeue`` and ``sacct`` say what all elements of ``job`` are; "" where it does not know them."""
        state = self._read()
        for each in (each for one in state["jobs"] if one["id"] == job for each in one["elements"]):
            each.update(squeue=squeue, sacct=sacct, node=node)
        self._write(state)

    @property
    def jobs(self) -> list[dict[str, Any]]:
        """Every submission that it has kept, also those that it refused."""
        jobs: list[dict[str, Any]] = self._read()["jobs"]
        return jobs

    def calls(self, command: str = "") -> list[str]:
        """The command lines so far that begin with ``command``."""
        file = self._folder / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        return [line for line in lines if line.startswith(command)]


@pytest.fixture
def slurm_double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlurmDouble:
    """A double in front of whatever Slurm this machine has; who waits for it loses patience soon."""
    double = SlurmDouble(tmp_path / "double")
    monkeypatch.setenv("PATH", f"{double.programs}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm, "_PATIENCE_SECONDS", 3.0)
    return double
