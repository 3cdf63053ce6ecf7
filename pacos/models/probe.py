"""What can be done with a model of any family, found out by doing it on a few tokens.

    rows alone, the model's own forward      -> its logits: what everything else is held against
    a token changed                          -> logits before it must stay, or it is no causal language model
    head(decoder(row)) * scale               -> the head can run apart, on the tokens that carry loss only
    head(decoder(both rows, packed)) * scale -> rows can share a sequence

What a few tokens cannot show is not believed: a family that is not in PACKED is packed only where all its layers see all
tokens, and writes its answers one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pacos.errors import UsageError
from pacos.models.attention import Packed, use_layouts
from pacos.models.plain import attend_by, own_attention, read_on, states_at_head

PLAIN = ("llama", "phi3", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "smollm3", "olmo2")
MIXTURES = ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "granitemoe", "glm4_moe")
"""Model types that are not tried: whatever their config says, their rows can be packed. Trying says nothing of mixtures of
experts in 16 bits, where rounding alone can send a token to another expert."""
PACKED = (
    *PLAIN,
    *MIXTURES,
    *("apertus", "arcee", "bitnet", "cohere", "cohere2", "cwm", "ernie4_5", "exaone4", "glm", "glm4"),
    *("gpt2", "gpt_bigcode", "gpt_neox", "granite", "helium", "hunyuan_v1_dense", "internlm3"),
    *("ministral3", "nanochat", "olmo", "olmo3", "opt", "persimmon", "phi"),
    *("seed_oss", "starcoder2", "vaultgemma"),
)
"""Model types whose windows and caches are known to hold in packed rows (tests/test_any_model.py)."""
LENGTHS = (5, 8)
"""Tokens of the two rows that are tried."""
CLOSE = {torch.float32: 1e-4}
CLOSE_16_BIT = 0.03
"""How far logits may be apart, root mean square, as a share of their spread: rounding is below, a wrong mask above."""


@dataclass(frozen=True)
class Ways:
    """`packs`: rows can share a sequence; `decodes`: answers can be written side by side; `reason`: why not.

    `decoder` gives what the head reads, None: only the whole model does. Logits are head(states * scale), capped.
    """

    packs: bool
    decodes: bool
    decoder: nn.Module | None
    scale: float = 1.0
    reason: str = ""


def ways_of(model: Any) -> Ways:
    """How rows may go through this model. Raises UsageError for what is no causal language model."""
    config, kind = model.config, model.config.model_type
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        raise UsageError(f"model type '{kind}' has no language-modeling head, so it cannot be trained to answer")
    if kind in PLAIN + MIXTURES or not has_values(head.weight):
        if known_to_read_ahead(model):
            raise reading_ahead(kind)
        known = kind in PACKED
        reason = "" if known else "its weights are not there to try"
        return Ways(known, known, getattr(model, model.base_model_prefix), scale_of(config), reason)
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return examine(model)
    finally:
        model.train(training)


def has_values(tensor: Tensor) -> bool:
    """False for tensors that only stand for others, on the meta device or in a trace."""
    return not tensor.is_meta and type(tensor.data).__name__ != "FakeTensor"


def examine(model: Any) -> Ways:
    """Ways of a model whose family is not known, by trying them."""
    attend_by(model, own_attention(model))
    rows = probe_rows(model)
    own = torch.cat([model(input_ids=row, use_cache=False).logits for row in rows], dim=1)
    refuse_reading_ahead(model, rows[0], own)
    for decoder in decoders(model):
        scale = head_scale(model, rows, own, decoder)
        if scale is not None:
            reason = why_alone(model, decoder, rows, own, scale)
            decodes = not reason and model.config.model_type in PACKED
            return Ways(not reason, decodes, decoder, scale, reason)
    scale = head_scale(model, rows, own, None)
    if scale is None:
        raise UsageError(f"model type '{model.config.model_type}': its logits are not those of a linear head")
    return Ways(False, False, None, scale, "its head does not stand directly behind its layers")


def probe_rows(model: Any) -> list[Tensor]:
    """Two rows of ids (1, n) from all over the vocabulary, none of them special."""
    weight, config = model.get_input_embeddings().weight, model.config
    named = (getattr(config, f"{name}_token_id", None) for name in ("pad", "bos", "eos"))
    special = {id for each in named for id in (each if isinstance(each, list) else [each])}
    ids = [id for id in (7919 * i % weight.shape[0] for i in range(1, 40)) if id not in special]
    first, both = LENGTHS[0], sum(LENGTHS)
    return [torch.tensor([part], device=weight.device) for part in (ids[:first], ids[first:both])]


def refuse_reading_ahead(model: Any, row: Tensor, own: Tensor) -> None:
    """Raises UsageError where a token changes the logits before it."""
    changed = torch.cat((row[:, :-1], row[:, :1]), dim=1)
    before = row.shape[1] - 1
    if not close(model(input_ids=changed, use_cache=False).logits[:, :before], own[:, :before]):
        raise reading_ahead(model.config.model_type)


def known_to_read_ahead(model: Any) -> bool:
    """Whether its modules say so, which can be asked without weights: BERT and its kin are encoders unless told otherwise."""
    return {module.is_decoder for module in model.modules() if hasattr(module, "is_decoder")} == {False}


def reading_ahead(kind: str) -> UsageError:
    return UsageError(
        f"model type '{kind}' reads ahead: its logits depend on tokens that come after; "
        "pacos trains causal language models alone"
    )


def decoders(model: Any) -> Iterator[nn.Module]:
    """The modules that may be everything but the head, likeliest first."""
    yield from dict.fromkeys((model.get_decoder(), getattr(model, model.base_model_prefix, model)))


def head_scale(model: Any, rows: list[Tensor], own: Tensor, decoder: nn.Module | None) -> float | None:
    """What the states must be multiplied by for the head to give the model's logits; None where nothing helps."""
    try:
        states = torch.cat([_states(model, row, decoder) for row in rows], dim=1)
        z = model.get_output_embeddings()(states)
    except Exception:  # whatever the code of any family raises when it is called in pieces
        return None
    if z.shape != own.shape:
        return None
    fitted = float((own * z).float().sum() / z.float().square().sum())
    cap = softcap_of(model.config)
    tried = (scale_of(model.config), 1.0, fitted)
    return next((scale for scale in tried if close(soft_cap(z * scale, cap), own)), None)


def _states(model: Any, ids: Tensor, decoder: nn.Module | None, **options: Any) -> Tensor:
    if decoder is None:
        return states_at_head(model, ids, **options)
    return decoder(input_ids=ids, use_cache=False, **options).last_hidden_state


def why_alone(model: Any, decoder: nn.Module, rows: list[Tensor], own: Tensor, scale: float) -> str:
    """Why rows cannot share a sequence; empty where they can."""
    if model.config.model_type not in PACKED and (local := local_attention(model.config)):
        return f"its {local} is not known to hold in packed rows"
    layout = Packed([row.shape[1] for row in rows])
    positions = layout.positions()[None].to(own.device)
    use_layouts(model)
    try:
        states = _states(model, torch.cat(rows, dim=1), decoder, position_ids=positions, layout=layout)
        logits = soft_cap(model.get_output_embeddings()(states * scale), softcap_of(model.config))
    except Exception:  # families that do not attend through transformers' interface
        return "its layers do not take a layout of rows"
    finally:
        attend_by(model, own_attention(model))
    return "" if close(logits, own) else "packed rows would change its logits"


def local_attention(config: Any) -> str:
    """The option by which some layers see near tokens only, or keep a state; empty where all see everything."""
    config = config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    named = ("sliding_window", "attention_chunk_size", "window_size", "attention_window_size")
    return "layer_types" if kinds else next((name for name in named if getattr(config, name, None)), "")


def scale_of(config: Any) -> float:
    """The factor of the logits by the names that families give it (Granite divides, Cohere and Falcon-H1 multiply)."""
    config = config.get_text_config()
    divisor = getattr(config, "logits_scaling", None)
    factor = getattr(config, "logit_scale", None) or getattr(config, "lm_head_multiplier", None)
    return 1 / divisor if divisor else float(factor) if isinstance(factor, (int, float)) else 1.0


def softcap_of(config: Any) -> float | None:
    """The bound of the logits by the names that families give it."""
    config = config.get_text_config()
    names = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
    return next((cap for name in names if (cap := getattr(config, name, None))), None)


def soft_cap(logits: Tensor, cap: float | None) -> Tensor:
    """cap * tanh(logits / cap), Gemma 2's bound on its logits; unchanged where cap is None."""
    return logits if cap is None else torch.tanh(logits / cap) * cap


def close(logits: Tensor, wanted: Tensor) -> bool:
    """True where two ways differ by rounding alone."""
    apart = (logits.float() - wanted.float()).square().mean().sqrt()
    return bool(apart <= CLOSE.get(wanted.dtype, CLOSE_16_BIT) * wanted.float().std())


@torch.no_grad()
def remembers(model: Any) -> bool:
    """True where the memory that the model gives back lets it read on, and not otherwise than from the start."""
    ids = torch.cat(probe_rows(model), dim=1)
    attend_by(model, own_attention(model))
    try:
        whole, _ = read_on(model, ids, {})
        _, memory = read_on(model, ids[:, :-2], {})
        _, memory = read_on(model, ids[:, -2:-1], memory)
        return bool(memory) and close(read_on(model, ids[:, -1:], memory)[0], whole)
    except Exception:  # families that take no memory, or another kind of it
        return False
