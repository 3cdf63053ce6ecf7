"""Adapters on disk, as PEFT writes and reads them.

`adapter_model.safetensors` and `adapter_config.json` are what `PeftModel.from_pretrained` and vLLM expect. A fused
projection with n adapted parts is saved as one LoRA of rank n r (see lora.py), by `rank_pattern` and `alpha_pattern`.

Reading is strict, for adapters of other tools too: every tensor that the config promises must be there, with its shape,
finite, and nothing else; `target_modules` must be plain names, since PEFT would run a string as a regular expression.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pacos.errors import DataError, UsageError
from pacos.models.lora import Adapter, LoraLinear, LoraSpec, Part, features, is_linear, linears_by_layer, wrap

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
PLAIN_NAME = re.compile(r"[A-Za-z0-9_.]+")
UNSUPPORTED = (
    "use_dora",
    "modules_to_save",
    "layers_to_transform",
    "exclude_modules",
    "trainable_token_indices",
    "target_parameters",
    "layer_replication",
    "lora_bias",
    "use_qalora",
    "use_bdlora",
    "alora_invocation_tokens",
    "arrow_config",
    "velora_config",
    "monteclora_config",
    "kasa_config",
)
"""What makes of an adapter something else than W + s B A on the matrices of target_modules."""
CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga", "mica")
"""Beginnings of init_lora_weights that start from other base weights than the model's own."""


def save_adapter(adapter: Adapter, folder: Path, *, base_name: str, revision: str = "") -> None:
    """Write the two PEFT files, in fp32, then read them back and compare: same keys, same values, B not all zero."""
    from safetensors.torch import load_file, save_file

    tensors = adapter_tensors(adapter)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    config = peft_config(adapter, base_name, revision)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    back = load_file(folder / WEIGHTS)
    assert back.keys() == tensors.keys(), "keys changed on the way to the disk"
    assert all(torch.equal(back[name], tensor) for name, tensor in tensors.items()), (
        "values changed on the way to the disk"
    )


def adapter_tensors(adapter: Adapter) -> dict[str, Tensor]:
    """PEFT's names -> A (rank, in) and B (out, rank)."""
    tensors = {}
    for name, module in adapter.modules.items():
        a, b = module.fused()
        tensors[f"{PREFIX}{name}.lora_A.weight"] = a.contiguous().cpu()
        tensors[f"{PREFIX}{name}.lora_B.weight"] = b.contiguous().cpu()
    return tensors


def peft_config(adapter: Adapter, base_name: str, revision: str) -> dict[str, Any]:
    """adapter_config.json: fused projections carry their own rank and alpha, so that alpha / rank stays the same."""
    leaves = {peft_target(name, module): len(module.parts) for name, module in adapter.modules.items()}
    spec = adapter.spec
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "revision": revision or None,
        "r": spec.rank,
        "lora_alpha": spec.alpha,
        "lora_dropout": spec.dropout,
        "target_modules": sorted(leaves),
        "rank_pattern": {leaf: spec.rank * n for leaf, n in leaves.items() if n > 1},
        "alpha_pattern": {leaf: spec.alpha * n for leaf, n in leaves.items() if n > 1},
        "bias": "none",
        # of Conv1D, PEFT's own word; A and B have the same shapes either way
        "fan_in_fan_out": all(hasattr(module.base, "conv") for module in adapter.modules.values()),
        "inference_mode": True,
        "init_lora_weights": True,
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
    }


def peft_target(name: str, module: LoraLinear) -> str:
    """By what name PEFT finds a matrix: as it was asked for where that is the end of its name, else its last name."""
    asked = module.parts[0].target
    return asked if name.endswith(f".{asked}") else name.rpartition(".")[2]


def load_adapter(model: nn.Module, folder: Path) -> Adapter:
    """Attach a saved adapter, ours or another tool's. Raises DataError with everything that is wrong with it."""
    config = read_config(folder)
    tensors = read_tensors(folder)
    modules, problems = _attach_saved(model, config, tensors)
    problems += [f"{WEIGHTS}: unexpected tensor {name}" for name in tensors]
    if problems:
        raise DataError(f"{folder}: the adapter does not fit this base model", problems)
    if all(not b.any() for m in modules.values() for b in m.b):
        raise DataError(
            f"{folder}: every lora_B is zero, so the adapter changes nothing; it was saved before any training"
        )
    spec = LoraSpec(
        config["r"],
        float(config["lora_alpha"]),
        float(config.get("lora_dropout") or 0),
        tuple(config["target_modules"]),
    )
    return Adapter(modules, spec)


def _attach_saved(
    model: nn.Module, config: dict[str, Any], tensors: dict[str, Tensor]
) -> tuple[dict[str, LoraLinear], list[str]]:
    """Wrap the targeted matrices and fill them, taking what is used out of `tensors`."""
    modules: dict[str, LoraLinear] = {}
    problems: list[str] = []
    for name in _matching(model, config["target_modules"]):
        sizes = features(model.get_submodule(name))
        a, b = (tensors.pop(f"{PREFIX}{name}.lora_{x}.weight", None) for x in "AB")
        rank, scale = rank_and_scale(config, name)
        wrong = _misfit(name, a, b, rank, sizes)
        if wrong or a is None or b is None:
            problems += wrong
            continue
        module = wrap(model, name, [Part(name.rpartition(".")[2], 0, sizes[1])], rank, scale, 0.0)
        module.a[0].data.copy_(a)
        module.b[0].data.copy_(b)
        module.requires_grad_(False)
        modules[name] = module
    if not modules and not problems:
        leaves = sorted({leaf for linears in linears_by_layer(model).values() for leaf in linears})
        problems.append(
            f"target_modules {config['target_modules']} match nothing; the base model has: {', '.join(leaves)}"
        )
    return modules, problems


def _matching(model: nn.Module, targets: list[str]) -> list[str]:
    """Names of the linear maps that PEFT's rule matches: equal to a target, or ending in '.' and a target."""
    return [
        name
        for name, module in model.named_modules()
        if is_linear(module) and any(name == t or name.endswith(f".{t}") for t in targets)
    ]


def rank_and_scale(config: dict[str, Any], name: str) -> tuple[int, float]:
    """Rank and alpha / rank of one matrix, patterns applied as PEFT does, rsLoRA's alpha / sqrt(rank) where it is on."""
    rank = _by_pattern(config.get("rank_pattern") or {}, name, config["r"])
    alpha = _by_pattern(config.get("alpha_pattern") or {}, name, config["lora_alpha"])
    return rank, alpha / (rank**0.5 if config.get("use_rslora") else rank)


def _by_pattern(pattern: dict[str, Any], name: str, default: Any) -> Any:
    """The value of the first key that the name is, or ends in, as PEFT takes it."""
    return next((value for key, value in pattern.items() if name == key or name.endswith(f".{key}")), default)


def _misfit(name: str, a: Tensor | None, b: Tensor | None, rank: int, sizes: tuple[int, int]) -> list[str]:
    problems = []
    for letter, tensor, shape in (("A", a, (rank, sizes[0])), ("B", b, (sizes[1], rank))):
        if tensor is None:
            problems.append(f"{WEIGHTS}: {name}.lora_{letter} is missing")
        elif tuple(tensor.shape) != shape:
            problems.append(f"{WEIGHTS}: {name}.lora_{letter} has shape {tuple(tensor.shape)}; {shape} fits the base")
        elif not torch.isfinite(tensor).all():
            problems.append(f"{WEIGHTS}: {name}.lora_{letter} holds NaN or infinity")
    return problems


def read_config(folder: Path) -> dict[str, Any]:
    """adapter_config.json, checked for what this loader relies on. Raises UsageError or DataError."""
    path = folder / CONFIG
    if not path.is_file():
        raise UsageError(f"{folder}: no adapter here ({CONFIG} is missing)")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON: {error}") from None
    problems = _config_problems(config)
    if problems:
        raise DataError(f"{path}: this adapter cannot be loaded", problems)
    return config


def _config_problems(config: Any) -> list[str]:
    if not isinstance(config, dict):
        return [f"it is a JSON {type(config).__name__}, not an object"]
    problems = []
    if config.get("peft_type") != "LORA":
        problems.append(f"peft_type is {config.get('peft_type')!r}; only 'LORA' is supported")
    targets = config.get("target_modules")
    if (
        not isinstance(targets, list)
        or not targets
        or not all(isinstance(t, str) and PLAIN_NAME.fullmatch(t) for t in targets)
    ):
        problems.append(f"target_modules is {targets!r}; a list of plain module names is accepted, no pattern")
    for key in ("r", "lora_alpha"):
        if not isinstance(config.get(key), (int, float)) or config[key] <= 0:
            problems.append(f"{key} is {config.get(key)!r}; a number above 0 is accepted")
    for key in ("rank_pattern", "alpha_pattern"):
        names = config.get(key) or {}
        if not isinstance(names, dict) or not all(PLAIN_NAME.fullmatch(str(n)) for n in names):
            problems.append(f"{key} is {names!r}; plain module names are accepted, no pattern")
    problems += [f"'{key}' is set; it is not supported" for key in UNSUPPORTED if config.get(key)]
    if str(config.get("init_lora_weights")).startswith(CHANGES_BASE):
        problems.append(
            f"init_lora_weights is {config['init_lora_weights']!r}, which starts from other base weights; save it with "
            "PEFT's path_initial_model_for_weight_conversion"
        )
    if config.get("bias", "none") != "none":
        problems.append(f"bias is {config['bias']!r}; only 'none' is supported")
    return problems


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of adapter_model.safetensors. A pickle (adapter_model.bin) is refused."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / WEIGHTS
    if not path.is_file():
        pickled = (
            " (adapter_model.bin is a pickle and is not read: convert it to safetensors)"
            if (folder / "adapter_model.bin").is_file()
            else ""
        )
        raise UsageError(f"{folder}: {WEIGHTS} is missing{pickled}")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: cannot be read as safetensors: {error}") from None
