"""`pacos.json`, the run record: all that is needed to repeat a run, to judge it, and to load it again."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from pacos.errors import DataError, UsageError, nearest_first
from pacos.recipes import recipe_from_tree

FILE = "pacos.json"
LIBRARIES = ("pacos", "torch", "transformers", "tokenizers", "peft", "safetensors", "bitsandbytes", "numpy")


class BaseIdentity(BaseModel):
    """Which weights the run started from. `weights_sha256` is over the contents of its weight files."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    revision: str
    weights_sha256: str
    architecture: str
    num_parameters: int


class DataIdentity(BaseModel):
    """Which rows, and how many of them were trained on, watched and held out."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    path: str
    format: str
    sha256: str
    split_sha256: str
    num_train: int
    num_validation: int
    num_test: int
    num_left_out: int
    num_cut: int


class Receipt(BaseModel):
    """Outputs compared over one hand-over of weights, on the contract's probe prompts."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    step: str
    max_logit_difference: float
    mean_logit_difference: float
    top1_agreement: float
    num_positions: int


class Result(BaseModel):
    """What training came to. Losses in nats a response token, the first and the last over a tenth of the steps each; seconds
    in steps, evaluations left out; peak memory in bytes, of the process that ended the run, or of the device."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    steps: int
    kept_step: int
    first_loss: float
    last_loss: float
    best_eval_loss: float | None
    seconds: float
    tokens: int
    tokens_per_second: float
    peak_memory_bytes: int


class RunRecord(BaseModel):
    """The whole of pacos.json."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    format: int = 1
    created: str
    recipe: dict[str, Any]
    base: BaseIdentity
    compute_dtype: str
    data: DataIdentity
    contract: dict[str, Any]
    result: Result
    receipts: list[Receipt]
    libraries: dict[str, str]
    hardware: dict[str, Any]


def write_record(record: RunRecord, folder: Path) -> None:
    (folder / FILE).write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_record(folder: Path) -> RunRecord:
    """The record of a finished run. Raises UsageError where there is none, DataError where it does not read."""
    path = folder / FILE
    if not path.is_file():
        raise UsageError(f"{folder}: {missing_run(folder)}")
    try:
        record = RunRecord.model_validate_json(path.read_text(encoding="utf-8"))
        recipe_from_tree(record.recipe, "recipe")
    except (ValidationError, ValueError, UsageError) as error:
        raise DataError(f"{path}: not a run record that this version reads: {str(error).splitlines()[0]}") from None
    return record


def missing_run(folder: Path) -> str:
    """Why a folder is no finished run, and what to do, in a line."""
    partial = partial_of(folder)
    if partial.is_dir():
        return f"the run is not finished; continue it with: pacos train ... --resume (it is in {partial})"
    if not folder.exists():
        others = sorted(p.parent.name for p in folder.parent.glob(f"*/{FILE}")) if folder.parent.is_dir() else []
        others = nearest_first(folder.name, others)
        hint = f"; runs there: {', '.join(others)}" if others else "; make one with: pacos train quickstart"
        return f"no such run{hint}"
    if (folder / "adapter_config.json").is_file():
        return f"an adapter of another tool: without {FILE} its prompt format is not known, and pacos does not guess it"
    return f"not a run of pacos ({FILE} is missing)"


def partial_of(folder: Path) -> Path:
    """Where a run lives until it is finished."""
    return folder.with_name(folder.name + ".partial")


@dataclass(frozen=True)
class Environment:
    """What the run ran on."""

    libraries: dict[str, str]
    hardware: dict[str, Any]


def environment() -> Environment:
    """Versions of the libraries that shape the result, and the machine."""
    libraries = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            libraries[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return Environment(libraries, hardware())


def hardware() -> dict[str, Any]:
    import torch

    found: dict[str, Any] = {"cpu": cpu_name(), "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    if torch.cuda.is_available():
        found["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return found


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def peak_memory_bytes(device_type: str) -> int:
    """Highest memory so far: of the device where there is one, else resident memory of this process."""
    if device_type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    try:
        import resource
    except ImportError:  # not on Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


def append_json_line(path: Path, row: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
