"""The cluster files: only fields that are documented, commands that their programs accept, scripts that do what they say."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from pacos.cli.main import app

ROOT = Path(__file__).parents[1]
CLUSTERS = ROOT / "clusters"
SLURM, SKYPILOT, KUBERNETES = (CLUSTERS / name for name in ("slurm.sbatch", "skypilot.yaml", "kubernetes.yaml"))

# What the documents of each program name, as far as a training job may want it. A dict is an object with these fields, a
# list holds one kind of thing, a type is a value, ... is free.
SKY = {
    "name": str,
    "workdir": str,
    "num_nodes": int,
    "resources": {
        "infra": str,
        "accelerators": str,
        "cpus": str,
        "memory": str,
        "instance_type": str,
        "use_spot": bool,
        "disk_size": int,
        "disk_tier": str,
        "image_id": str,
        "autostop": ...,
        "job_recovery": ...,
    },
    "envs": ...,
    "secrets": ...,
    "file_mounts": ...,
    "setup": str,
    "run": str,
}
ENV = [{"name": str, "value": str}]
POD = {
    "restartPolicy": str,
    "terminationGracePeriodSeconds": int,
    "containers": [
        {
            "name": str,
            "image": str,
            "env": ENV,
            "command": [str],
            "args": [str],
            "volumeMounts": [{"name": str, "mountPath": str, "readOnly": bool}],
        }
    ],
    "volumes": [{"name": str, "persistentVolumeClaim": {"claimName": str}, "emptyDir": {"medium": str}}],
}
JOB = {"metadata": {"labels": ...}, "spec": {"backoffLimit": int, "template": {"spec": POD}}}
JOBSET = {"failurePolicy": {"maxRestarts": int}, "replicatedJobs": [{"name": str, "replicas": int, "template": JOB}]}
RUNTIME = {
    "apiVersion": str,
    "kind": str,
    "metadata": {"name": str, "namespace": str},
    "spec": {"mlPolicy": {"numNodes": int, "torch": {"numProcPerNode": str}}, "template": {"spec": JOBSET}},
}
TRAINJOB = {
    "apiVersion": str,
    "kind": str,
    "metadata": {"name": str, "namespace": str},
    "spec": {
        "runtimeRef": {"name": str, "kind": str, "apiGroup": str},
        "suspend": bool,
        "trainer": {
            "image": str,
            "command": [str],
            "args": [str],
            "env": ENV,
            "numNodes": int,
            "numProcPerNode": int,
            "resourcesPerNode": {"limits": ..., "requests": ...},
        },
    },
}
SBATCH = {
    "job-name",
    "nodes",
    "ntasks-per-node",
    "gpus-per-node",
    "cpus-per-task",
    "mem",
    "partition",
    "account",
    "time",
    "signal",
    "requeue",
    "open-mode",
    "output",
}


def misfits(value: Any, schema: Any, place: str = "") -> Iterator[str]:
    """Where a tree holds what its schema does not know."""
    if schema is ...:
        return
    if isinstance(schema, dict) and isinstance(value, dict):
        for key, inner in value.items():
            yield from misfits(inner, schema[key], f"{place}.{key}") if key in schema else [f"{place}.{key}"]
    elif isinstance(schema, list) and isinstance(value, list):
        for i, item in enumerate(value):
            yield from misfits(item, schema[0], f"{place}[{i}]")
    elif not isinstance(schema, type) or type(value) is not schema:
        yield place


def kubernetes() -> tuple[dict[str, Any], dict[str, Any]]:
    runtime, job = yaml.safe_load_all(KUBERNETES.read_text())
    return runtime, job


def test_the_yaml_files_hold_documented_fields_alone() -> None:
    runtime, job = kubernetes()
    assert list(misfits(yaml.safe_load(SKYPILOT.read_text()), SKY)) == []
    assert list(misfits(runtime, RUNTIME)) == []
    assert list(misfits(job, TRAINJOB)) == []
    assert list(misfits({"spec": {"trainer": {"image": 3, "command": "x"}}, "typo": 1}, TRAINJOB)) == [
        ".spec.trainer.image",
        ".spec.trainer.command",
        ".typo",
    ]


def test_the_kubernetes_job_names_its_runtime_as_trainer_looks_for_it() -> None:
    runtime, job = kubernetes()
    assert {runtime["apiVersion"], job["apiVersion"]} == {"trainer.kubeflow.org/v1alpha1"}
    assert job["spec"]["runtimeRef"] == {"name": runtime["metadata"]["name"], "kind": runtime["kind"]}
    (node,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    assert node["template"]["metadata"]["labels"] == {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}
    pod = node["template"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (node["name"], container["name"]) == ("node", "node")
    assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", job["metadata"]["name"])
    saving = next(int(e["value"]) for e in container["env"] if e["name"] == "TORCH_ELASTIC_SHUTDOWN_TIMEOUT")
    assert saving < pod["terminationGracePeriodSeconds"]


def test_sbatch_options_are_documented_ones() -> None:
    lines = [line for line in SLURM.read_text().splitlines() if line.startswith("#SBATCH")]
    options = [line.removeprefix("#SBATCH --").partition("=")[0] for line in lines]
    assert len(options) == 10
    assert set(options) <= SBATCH


# ---------------------------------------------------------------------------------------------------------------------
# commands


def lines_of(text: str) -> list[str]:
    """Lines of a shell script, continued ones joined."""
    return text.replace("\\\n", " ").splitlines()


def commands() -> dict[str, list[str]]:
    """Each line that starts pacos or torchrun, by its file, as words."""
    texts = {
        "slurm.sbatch": lines_of(SLURM.read_text()),
        "skypilot.yaml": lines_of(yaml.safe_load(SKYPILOT.read_text())["run"]),
        "clusters.md": re.findall(r"`(pacos train [^`]*|torchrun -[^`]* -m pacos [^`]*)`", docs())
        + [line.removeprefix("$ ") for line in docs().splitlines() if line.startswith("$ ")],
    }
    trainer = kubernetes()[1]["spec"]["trainer"]
    found = {"kubernetes.yaml": [shlex.join([*trainer["command"], *trainer["args"]])]}
    for name, lines in texts.items():
        starts = [re.search(r"(?<![\w/])(pacos train|torchrun) .*", line) for line in lines if not line.startswith("#")]
        found[name] = [match[0].rstrip(" &") for match in starts if match]
    return found


def docs() -> str:
    return (ROOT / "docs" / "clusters.md").read_text()


@pytest.mark.parametrize("name", ["slurm.sbatch", "skypilot.yaml", "kubernetes.yaml", "clusters.md"])
def test_every_command_is_read_by_the_program_it_starts(name: str) -> None:
    from torch.distributed.run import get_args_parser

    found = commands()[name]
    assert len(found) == {"slurm.sbatch": 1, "skypilot.yaml": 1, "kubernetes.yaml": 1, "clusters.md": 6}[name], found
    for command in found:
        words = shlex.split(re.sub(r"\$\{?\w+\}?", "2", command))
        if words[0] == "torchrun":
            launcher = get_args_parser().parse_args(words[1:])
            assert (launcher.module, launcher.training_script) == (True, "pacos")
            words = ["pacos", *launcher.training_script_args]
        assert words[:2] == ["pacos", "train"], command
        train = typer.main.get_command(app).commands["train"]  # type: ignore[attr-defined]
        assert train.make_context("train", words[2:]).params["recipe"] in ("2", "RECIPE", "alpaca-7b", "quickstart")


def test_what_may_be_interrupted_continues_by_itself() -> None:
    found = commands()
    for name in ("slurm.sbatch", "skypilot.yaml", "kubernetes.yaml"):
        assert "--resume" in found[name][0], name


def test_the_page_links_to_files_that_are_there() -> None:
    links = re.findall(r"\]\((\.\./[^)]+)\)", docs())
    assert len(links) == 3
    assert all((ROOT / "docs" / link).is_file() for link in links)


# ---------------------------------------------------------------------------------------------------------------------
# scripts, run against stand-ins of the programs of a cluster


def stand_in(folder: Path, name: str, body: str) -> None:
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)


def environment(folder: Path, **variables: str) -> dict[str, str]:
    return {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", **variables}


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    stand_in(
        tmp_path, "scontrol", f'[ "$1" = requeue ] && echo "$2" > {tmp_path}/requeued || printf "node7\\nnode8\\n"'
    )
    stand_in(
        tmp_path,
        "srun",
        f"trap 'echo saved > {tmp_path}/saved; exit 143' TERM\n"
        f'printf "%s\\n" "$@" > {tmp_path}/started.new; mv {tmp_path}/started.new {tmp_path}/started\n'
        '[ "$WAITS" ] && while sleep 0.02; do :; done; exit 5',
    )
    found = {"SLURM_JOB_NODELIST": "node[7-8]", "SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "8", "SLURM_JOB_ID": "41"}
    return environment(tmp_path, **found, OUT="runs/mine")


def test_slurm_starts_torchrun_on_every_node_and_ends_as_it_ends(slurm: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(["bash", SLURM], env=slurm, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (5, "")
    assert " ".join((tmp_path / "started").read_text().split()) == (
        "--kill-on-bad-exit=1 torchrun --nnodes 2 --nproc-per-node 8 --max-restarts 3 "
        "--rdzv-id 41 --rdzv-backend c10d --rdzv-endpoint node7:29500 "
        "-m pacos train alpaca-7b --out runs/mine --resume"
    )
    assert not (tmp_path / "requeued").exists()


def test_slurm_saves_and_goes_back_into_the_queue_when_time_is_up(slurm: dict[str, str], tmp_path: Path) -> None:
    process = subprocess.Popen(["bash", SLURM], env={**slurm, "WAITS": "1"}, cwd=tmp_path)
    end = time.monotonic() + 30
    while not (tmp_path / "started").exists() and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 143
    assert (tmp_path / "saved").exists()
    assert (tmp_path / "requeued").read_text() == "41\n"


def test_skypilot_brings_the_run_back_trains_and_keeps_it(tmp_path: Path) -> None:
    kept, task = tmp_path / "kept", yaml.safe_load(SKYPILOT.read_text())
    (kept / "mine.partial").mkdir(parents=True)
    (kept / "mine.partial" / "old").touch()
    stand_in(tmp_path, "pacos", 'echo "$@"; ls runs; mv runs/mine.partial runs/mine; exit 4')
    stand_in(tmp_path, "rsync", f'echo rsync "$@"; rm -r {kept}/*; cp -r runs/. {kept}/')
    script = task["run"].replace("/kept/", f"{kept}/")
    assert script.count(str(kept)) == 2
    given = environment(tmp_path, RECIPE="alpaca-7b", RUN="mine", SKYPILOT_NUM_GPUS_PER_NODE="4")
    done = subprocess.run(["bash", "-c", script], env=given, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (4, "")
    assert done.stdout.splitlines() == [
        "train alpaca-7b --out runs/mine --nproc 4 --resume",
        "mine.partial",
        f"rsync --recursive --size-only --inplace --delete runs/ {kept}/",
    ]
    assert (kept / "mine" / "old").exists()
    again = subprocess.run(["bash", "-c", script], env=given, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert (again.returncode, again.stdout) == (0, "runs/mine is finished\n")
