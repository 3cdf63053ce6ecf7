"""One token of each row through the whole network in one call of decode.c, for the families that are named here.

    decoder = decoder_of(network)                    None where a part of the model is none that is known
    decoder.logits(ids, lengths, owners, kept)       (N, V) in fp32, and the new keys and values are in the cache

What the model is made of is told to C as pointers to torch's own memory: nothing is packed or converted, and weights that are
not trained are moved to large pages once (pages.py). The pointers are taken anew for each call of the engine, since
training moves and changes weights. Other models, devices and dtypes keep
transformers' forward pass, which is also what the tests compare this to.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pacos.models.kernels import native
from pacos.models.kernels.gated import ACTIVATIONS, KNOWN, _activation
from pacos.models.kernels.norms import PLAIN
from pacos.models.kernels.pages import into_large_pages
from pacos.models.lora import LoraLinear
from pacos.models.projections import WINDOW_IN, window_of
from pacos.models.switch import SwitchLinear

FAMILIES = ("LlamaModel", "MistralModel", "Phi3Model", "Qwen2Model")
"""Decoders that are embedding, layers of norm, attention, norm and gated MLP, and a last norm, with nothing in between."""
FIXED_TURNS = ("default", "linear", "llama3", "yarn")
"""Rotary embeddings that are a function of the position alone."""

I64, F32, POINTER = ctypes.c_int64, ctypes.c_float, ctypes.c_void_p


class _Lora(ctypes.Structure):
    _fields_ = (
        ("a", POINTER),
        ("b", POINTER),
        *((n, I64) for n in ("rank", "start", "count", "owner")),
        ("scale", F32),
    )


class _Matrix(ctypes.Structure):
    _fields_ = (
        ("weight", POINTER),
        ("bias", POINTER),
        ("out", I64),
        ("in", I64),
        ("num_loras", I64),
        ("loras", POINTER),
    )


class _Layer(ctypes.Structure):
    _fields_ = (
        ("norm_before", POINTER),
        ("norm_between", POINTER),
        ("qkv", _Matrix * 3),
        ("o", _Matrix),
        ("gate_up", _Matrix * 2),
        ("down", _Matrix),
        ("keys", POINTER),
        ("values", POINTER),
        ("window", I64),
    )


class _Decoder(ctypes.Structure):
    _fields_ = (
        ("layers", POINTER),
        ("last_norm", POINTER),
        ("head", _Matrix),
        *(
            (name, I64)
            for name in ("num_layers", "width", "heads", "kv_heads", "size", "half", "inner", "gelu", "wide")
        ),
        ("eps", F32),
        ("scaling", F32),
    )


class _Step(ctypes.Structure):
    _fields_ = (
        *((name, POINTER) for name in ("x", "cos", "sin", "turns", "lengths", "owners", "logits")),
        ("rows", I64),
        ("room", I64),
    )


class Decoder:
    """The pointers to one network's parts, good as long as its tensors stay where they are."""

    def __init__(self, model: Any, decoder: Any):
        self._kept: list[Any] = []
        self._model, self._decoder = model, decoder
        self._embed = model.get_input_embeddings()
        head = model.get_output_embeddings()
        attention, mlp = decoder.layers[0].self_attn, decoder.layers[0].mlp
        config, self.dtype = model.config, head.weight.dtype
        self._layers = (_Layer * len(decoder.layers))(*map(self._layer, decoder.layers))
        self._turns, self._length = self._turned(torch.zeros(1, 1, dtype=torch.long)), 1
        self._c = _Decoder(
            ctypes.addressof(self._layers),
            decoder.norm.weight.data_ptr(),
            self._matrix(head),
            len(decoder.layers),
            config.hidden_size,
            config.num_attention_heads,
            config.num_key_value_heads,
            attention.head_dim,
            self._turns[0].shape[-1] // 2,
            config.intermediate_size,
            ACTIVATIONS[type(_activation(mlp)).__name__] == "gelu",
            self.dtype == torch.float32,
            decoder.norm.variance_epsilon,
            attention.scaling,
        )

    def logits(self, ids: Sequence[int], lengths: Sequence[int], owners: Sequence[int], cache: Any) -> Tensor:
        """The logits (N, V), fp32, behind token `ids[i]` at position `lengths[i]` of slot i, which `cache` gets to hold.

        `owners[i]` is the number of the adapter of row i, -1 for none. Raises MemoryError.
        """
        at = torch.tensor([lengths, owners], dtype=torch.long)
        x = self._embed(torch.tensor(ids)).float().contiguous()
        cos, sin, turns = self._positions(at[0], cache.length)
        for layer, keys, values in zip(
            self._layers, *(_in_order(kept) for kept in (cache.keys, cache.values)), strict=True
        ):
            layer.keys, layer.values = keys, values
        logits = torch.empty(len(ids), self._c.head.out)
        where = (x, cos, sin, turns, at[0], at[1], logits)
        step = _Step(*(tensor.data_ptr() for tensor in where), len(ids), cache.length)
        native.call("decode_step", *(native.Address(ctypes.addressof(c)) for c in (self._c, step)))
        return logits

    def _positions(self, at: Tensor, room: int) -> tuple[Tensor, Tensor, Tensor]:
        """cos and sin, and which of their rows is that of each token: of all positions where they are fixed."""
        if self._decoder.rotary_emb.rope_type not in FIXED_TURNS:
            return *self._turned(at[None]), torch.arange(len(at))
        if room > self._length:
            self._turns, self._length = self._turned(torch.arange(room)[None]), room
        return *self._turns, at

    def _turned(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin (T, 2 half) of positions (1, T), in fp32, rounded as the model rounds them."""
        like = torch.empty(0, dtype=self.dtype)
        cos, sin = self._decoder.rotary_emb(like, positions)
        return cos[0].float().contiguous(), sin[0].float().contiguous()

    def _layer(self, layer: Any) -> _Layer:
        attention, mlp = layer.self_attn, layer.mlp
        return _Layer(
            layer.input_layernorm.weight.data_ptr(),
            layer.post_attention_layernorm.weight.data_ptr(),
            self._matrices(_of(attention, "qkv_proj", "q_proj", "k_proj", "v_proj"), 3),
            self._matrix(attention.o_proj),
            self._matrices(_of(mlp, "gate_up_proj", "gate_proj", "up_proj"), 2),
            self._matrix(mlp.down_proj),
            None,
            None,
            window_of(attention) or 0,
        )

    def _matrices(self, modules: Sequence[Any], count: int) -> Any:
        return (_Matrix * count)(*map(self._matrix, modules))

    def _matrix(self, module: Any) -> _Matrix:
        base = base_of(module)
        adapters = [
            _Lora(a.data_ptr(), b.data_ptr(), a.shape[0], part.start, part.stop - part.start, owner, lora.scale)
            for owner, lora in _adapters_of(module)
            for part, a, b in zip(lora.parts, lora.a, lora.b, strict=True)
        ]
        loras = (_Lora * len(adapters))(*adapters)
        self._kept.append(loras)
        bias = None if base.bias is None else base.bias.data_ptr()
        return _Matrix(base.weight.data_ptr(), bias, *base.weight.shape, len(adapters), ctypes.addressof(loras))


def decoder_of(network: Any) -> Decoder | None:
    """The decoder of a network on the CPU all parts of which are known; None for others."""
    model, decoder = network.model, network.decoder
    if type(decoder).__name__ not in FAMILIES or network.softcap or network.ways.scale != 1:
        return None
    linears, rest = _parts(model, decoder)
    known = (
        all(type(base_of(m)) is nn.Linear for m in linears)
        and type(model.get_input_embeddings()) is nn.Embedding
        and model.get_output_embeddings().bias is None
        and all(_is_known(layer) for layer in decoder.layers)
        and type(decoder.norm).__name__ in PLAIN
    )
    tensors = [base_of(m).weight for m in linears] + [base_of(m).bias for m in linears if base_of(m).bias is not None]
    masters = [x for m in linears for _, lora in _adapters_of(m) for x in (*lora.a, *lora.b)]
    fits = (
        known
        and native.fits(*(x.data for x in (*tensors, *rest)))
        and all(x.dtype == torch.float32 and x.is_contiguous() and x.device.type == "cpu" for x in masters)
    )
    if not fits:
        return None
    into_large_pages(base_of(m).weight for m in linears)
    return Decoder(model, decoder)


def base_of(module: Any) -> Any:
    return module.base if isinstance(module, (LoraLinear, SwitchLinear)) else module


def _adapters_of(module: Any) -> Iterable[tuple[int, LoraLinear]]:
    """The adapters on a matrix, each with its number; -1 is that of one that all rows are written with."""
    if isinstance(module, SwitchLinear):
        return module.adapters.items()
    return [(-1, module)] if isinstance(module, LoraLinear) and module.enabled else []


def _parts(model: Any, decoder: Any) -> tuple[list[Any], list[Tensor]]:
    """The linear modules, and the other weights."""
    linears, rest = [model.get_output_embeddings()], [decoder.norm.weight]
    for layer in decoder.layers:
        linears += _of(layer.self_attn, "qkv_proj", "q_proj", "k_proj", "v_proj")
        linears += _of(layer.mlp, "gate_up_proj", "gate_proj", "up_proj")
        linears += [layer.self_attn.o_proj, layer.mlp.down_proj]
        rest += [layer.input_layernorm.weight, layer.post_attention_layernorm.weight]
    return linears, rest


def _is_known(layer: Any) -> bool:
    norms = (layer.input_layernorm, layer.post_attention_layernorm)
    return (
        type(layer.self_attn).__name__ in WINDOW_IN
        and type(layer.mlp).__name__ in KNOWN
        and type(_activation(layer.mlp)).__name__ in ACTIVATIONS
        and all(type(norm).__name__ in PLAIN for norm in norms)
    )


def _of(module: Any, fused: str, *apart: str) -> list[Any]:
    return [getattr(module, fused)] if hasattr(module, fused) else [getattr(module, name) for name in apart]


def _in_order(kept: Mapping[int, Tensor]) -> list[int]:
    return [kept[layer].data_ptr() for layer in range(len(kept))]
