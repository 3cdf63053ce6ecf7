"""Live model -> saved files: written, read back, and compared on the contract's probe prompts.

What was saved is loaded again the way a user would load it, onto the same base, and must give the live model's logits. An
adapter that was saved empty, or loads as a no-op, does not get a receipt.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pacos.errors import GateError
from pacos.models import Adapter, LoadedModel, Network, Packed, load_adapter, save_adapter, unwrap
from pacos.models.catalog import public_name
from pacos.models.quiet import quiet
from pacos.training.record import Receipt
from pacos.training.sharding import whole_weights

LARGEST_DIFFERENCE = 1e-3
"""Logits of the same fp32 weights differ by rounding alone: fused adapters multiply in another order."""
LOOSE = 0.25
"""The same in 16 bits, where one rounding step of a logit near 32 is 0.125."""


def save_and_compare(
    network: Network, adapter: Adapter | None, loaded: LoadedModel, folder: Path, contract: dict[str, Any]
) -> Receipt:
    """Save into `folder` and compare. Raises GateError beyond the largest difference. The live weights stay attached."""
    prompts = [probe["prompt_ids"] for probe in contract["probes"]]
    live = probe_logits(network, prompts)
    if adapter is None:
        saved = _save_full(loaded, folder, prompts)
    else:
        saved = _save_adapter(network, adapter, loaded, folder, prompts)
    receipt = compare("live -> saved", live, saved)
    allowed = LARGEST_DIFFERENCE if network.dtype == torch.float32 else LOOSE
    if receipt.max_logit_difference > allowed:
        raise GateError(
            f"{folder}: the saved weights give other logits than the live model: largest difference "
            f"{receipt.max_logit_difference:.3g}, allowed {allowed:g}. Nothing was kept under the final name"
        )
    return receipt


def _save_adapter(
    network: Network, adapter: Adapter, loaded: LoadedModel, folder: Path, prompts: Sequence[Sequence[int]]
) -> list[Tensor]:
    save_adapter(adapter, folder, base_name=public_name(loaded.identity.name), revision=loaded.identity.revision)
    unwrap(loaded.model, adapter)
    again = load_adapter(loaded.model, folder)
    logits = probe_logits(network, prompts)
    unwrap(loaded.model, again)
    rewrap(loaded.model, adapter)
    return logits


def rewrap(model: torch.nn.Module, adapter: Adapter) -> None:
    """Undo `unwrap`."""
    for name, module in adapter.modules.items():
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, module)


def _save_full(loaded: LoadedModel, folder: Path, prompts: Sequence[Sequence[int]]) -> list[Tensor]:
    from transformers import AutoModelForCausalLM

    with quiet():
        loaded.model.save_pretrained(folder, state_dict=whole_weights(loaded.model))
        again: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=loaded.compute_dtype)
    return probe_logits(Network(again.to(loaded.device).eval()), prompts)


@torch.no_grad()
def probe_logits(network: Network, prompts: Sequence[Sequence[int]]) -> list[Tensor]:
    """Logits at every position of each prompt, (T, V) each, in fp32 on the CPU."""
    network.model.eval()
    found = []
    for prompt in prompts:
        ids = torch.tensor([list(prompt)], device=network.device)
        layout = Packed([len(prompt)])
        hidden = network.hidden(ids, layout.positions().to(network.device)[None], layout)
        found.append(network.logits(hidden[0]).float().cpu())
    return found


def compare(step: str, before: Sequence[Tensor], after: Sequence[Tensor]) -> Receipt:
    differences = [(a - b).abs() for a, b in zip(before, after, strict=True)]
    agree = torch.cat([a.argmax(-1) == b.argmax(-1) for a, b in zip(before, after, strict=True)])
    return Receipt(
        step=step,
        max_logit_difference=max(float(d.max()) for d in differences),
        mean_logit_difference=float(torch.cat([d.mean(-1) for d in differences]).mean()),
        top1_agreement=float(agree.float().mean()),
        num_positions=len(agree),
    )
