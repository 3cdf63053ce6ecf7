"""Write a GGUF file, a tensor at a time: the gguf package quantizes and lays out, this file says what goes where.

Vectors stay in fp32. In types below 8 bits the embedding and the head are kept in Q8_0, where llama.cpp's own recipes keep
them finer too; rows that do not divide into blocks of 32 are F16.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pacos.errors import UsageError
from pacos.export.gguf_metadata import head_size, metadata
from pacos.export.gguf_names import Names
from pacos.export.gguf_rope import factor_tensors
from pacos.export.gguf_tokenizer import tokenizer_metadata
from pacos.export.origin import Origin
from pacos.export.updates import Merged
from pacos.prompts import chat_template_jinja

TYPES = {
    "f32": ("F32", 0),
    "f16": ("F16", 1),
    "bf16": ("BF16", 32),
    "q8_0": ("Q8_0", 7),
    "q5_1": ("Q5_1", 9),
    "q5_0": ("Q5_0", 8),
    "q4_1": ("Q4_1", 3),
    "q4_0": ("Q4_0", 2),
}
"""Type -> the gguf package's name of it, and llama.cpp's number for a file that is mostly of it."""
BLOCK = 32
FINER = ("token_embd.weight", "output.weight")
CONTRACT = "pacos.contract"
Entry = tuple[str, str, tuple[int, ...], Callable[[], Tensor]]
"""A tensor to write: name, type, shape, and what gives its values."""


@dataclass(frozen=True)
class Plan:
    """A tensor of the file: where its values come from, and in what type they are kept."""

    name: str
    source: str
    shape: tuple[int, ...]
    type: str


def plan_of(names: Names, weights: Merged, type: str) -> list[Plan]:
    """Every tensor of the file, in the order of the model's."""
    plans = []
    for source, name in names.all(weights.slots).items():
        shape = weights.slots[source].shape
        plans.append(Plan(name, source, shape, type_of(name, shape, type)))
    return plans


def type_of(name: str, shape: tuple[int, ...], type: str) -> str:
    if len(shape) < 2:
        return "F32"
    kind = TYPES[type][0]
    if kind in ("F32", "F16", "BF16"):
        return kind
    if shape[-1] % BLOCK:
        return "F16"
    return "Q8_0" if name in FINER else kind


def write_gguf(origin: Origin, weights: Merged, path: Path, type: str) -> list[Plan]:
    """The model as one GGUF file, its contract with it. Raises UsageError for what GGUF cannot hold."""
    if type not in TYPES:
        raise UsageError(f"--type {type}: not known here; known: {', '.join(TYPES)}")
    config = origin.config
    names = Names(config)
    plans = plan_of(names, weights, type)
    rows = next(p.shape[0] for p in plans if p.name == "token_embd.weight")
    swallows = any(control.rstrip for control in origin.renderer.codec.controls.values())
    values = metadata(config | {"vocab_size": rows}, origin.name, swallows)
    values["general.file_type"] = TYPES[type][1]
    values["general.quantization_version"] = 2
    values |= tokenizer_metadata(origin.renderer, origin.contract, rows, chat_template_jinja(origin.renderer))
    values[CONTRACT] = json.dumps(origin.contract, ensure_ascii=False)
    tensors: list[Entry] = []
    for name, factors in factor_tensors(config, head_size(config)).items():
        tensors.append((name, "F32", tuple(factors.shape), partial(torch.clone, factors)))
    for plan in plans:
        tensors.append((plan.name, plan.type, plan.shape, lambda p=plan: names.to_gguf(p.name, _values(weights, p))))  # type: ignore[misc]
    write_file(path, values, tensors)
    return plans


def _values(weights: Merged, plan: Plan) -> Tensor:
    """A tensor in fp32, with all digits of its update."""
    return weights.exact(plan.source).float()


def write_file(path: Path, values: Mapping[str, Any], tensors: list[Entry]) -> None:
    """A GGUF file of these key-value pairs and tensors (name, type, shape, values). Raises UserError without gguf."""
    import gguf

    writer = gguf.GGUFWriter(None, str(values["general.architecture"]))
    for key, value in values.items():
        if key != "general.architecture":
            _add(writer, key, value)
    for name, kind, shape, _ in tensors:
        writer.add_tensor_info(name, *_info(gguf, kind, shape))
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _, kind, _, read in tensors:
        for part in _quantized(gguf, read(), kind):
            writer.write_tensor_data(part)
    writer.close()


def _info(gguf: Any, kind: str, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """(shape, dtype, bytes, type) as the writer takes them: packed types by the shape of their bytes."""
    of = gguf.GGMLQuantizationType[kind]
    dense = {"F32": np.float32, "F16": np.float16}
    if kind in dense:
        return shape, np.dtype(dense[kind]), int(np.prod(shape)) * np.dtype(dense[kind]).itemsize
    packed = gguf.quants.quant_shape_to_byte_shape(shape, of)
    return packed, np.dtype(np.uint8), int(np.prod(packed)), of


def _quantized(gguf: Any, tensor: Tensor, kind: str) -> Iterator[np.ndarray]:
    """A tensor's bytes; one array, because the writer pads behind each."""
    array = tensor.contiguous().numpy()
    if kind == "F32":
        yield array
    elif kind == "F16":
        yield _half(array)
    else:
        yield gguf.quants.quantize(array, gguf.GGMLQuantizationType[kind])


def _half(array: np.ndarray) -> np.ndarray:
    """In fp16. Raises UsageError for values that it cannot hold."""
    if np.abs(array).max(initial=0.0) > float(torch.finfo(torch.float16).max):
        raise UsageError("GGUF: weights beyond 65,504 do not fit F16; use --type bf16")
    return array.astype(np.float16)


def _add(writer: Any, key: str, value: Any) -> None:
    """A key with the type that llama.cpp expects of it."""
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)
