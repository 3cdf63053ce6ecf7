"""A step in one call of C is the step of transformers' forward pass, for every known family, dtype and number of rows."""

from __future__ import annotations

import copy
import ctypes
import random
from typing import Any

import pytest
import torch

from pacos.inference.cache import Decode, KVCache
from pacos.models import LoraSpec, Network, attach
from pacos.models.kernels import decode, native
from pacos.models.kernels.decode import decoder_of
from pacos.models.kernels.peaks import peaks, reference_peaks
from tests.tiny import WINDOW, tiny_model

FAMILIES = ("llama", "phi3", "mistral", "qwen2")
KINDS = {torch.float32: 2e-4, torch.bfloat16: 0.15}
"""How far logits of about 5 may be apart: transformers rounds to bf16 after each operation, the kernel once a product."""
ROWS = (1, 3, 4, 8, 9, 16, 33, 70)


def network_of(family: str, kind: torch.dtype = torch.float32, **overrides: Any) -> Network:
    return Network(tiny_model(family, **overrides).to(kind).requires_grad_(False))


def filled(network: Network, rows: int) -> tuple[KVCache, list[int], list[int]]:
    """A cache of random keys and values, the length of each row and its newest token."""
    config, drawn = network.model.config, random.Random(rows)
    size = network.decoder.layers[0].self_attn.head_dim  # type: ignore[union-attr, index]
    cache = KVCache(rows, 40, dtype=network.dtype, device=network.device)
    generator = torch.Generator().manual_seed(0)
    like = torch.zeros(config.num_key_value_heads, 1, size)
    for layer in range(config.num_hidden_layers):
        for tensor in cache.of_layer(layer, like, like):
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
    lengths = [drawn.randrange(0, 40) for _ in range(rows)]
    return cache, lengths, [drawn.randrange(3, 320) for _ in range(rows)]


@torch.inference_mode()
def plain_logits(network: Network, cache: KVCache, lengths: list[int], ids: list[int]) -> torch.Tensor:
    """By transformers' modules, layer by layer."""
    with native.plain():
        at = torch.tensor(lengths)[:, None]
        hidden = network.hidden(torch.tensor(ids)[:, None], at, Decode(cache, lengths))
        return network.logits(hidden[:, 0]).float()


def kernel_logits(network: Network, cache: KVCache, lengths: list[int], ids: list[int]) -> torch.Tensor:
    decoder = decoder_of(network)
    assert decoder is not None
    return decoder.logits(ids, lengths, [-1] * len(ids), cache)


def agree(network: Network, rows: int) -> None:
    cache, lengths, ids = filled(network, rows)
    other = copy.deepcopy(cache)
    close = KINDS[network.dtype]
    ours, theirs = kernel_logits(network, cache, lengths, ids), plain_logits(network, other, lengths, ids)
    assert theirs.std() > 0.5
    torch.testing.assert_close(ours, theirs, atol=close, rtol=close)
    for kept, written in ((cache.keys, other.keys), (cache.values, other.values)):
        for layer in kept:
            torch.testing.assert_close(kept[layer], written[layer], atol=close / 2, rtol=close)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_step_is_that_of_the_modules(family: str, kind: torch.dtype) -> None:
    for rows in ROWS:
        agree(network_of(family, kind), rows)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_sizes_that_fill_no_register_are_computed_to_their_end(kind: torch.dtype) -> None:
    odd = {
        "hidden_size": 70,
        "intermediate_size": 101,
        "num_attention_heads": 5,
        "num_key_value_heads": 1,
        "head_dim": 14,
    }
    for rows in (1, 5, 20):
        agree(network_of("mistral", kind, vocab_size=323, **odd), rows)
    agree(network_of("llama", kind, head_dim=80), 5)


def test_an_adapter_adds_to_its_own_outputs_of_a_fused_matrix() -> None:
    for family in FAMILIES:
        network = network_of(family)
        spec = LoraSpec(4, 8.0, 0.0, ("q_proj", "v_proj", "o_proj", "up_proj", "down_proj"))
        adapter = attach(network.model, spec, torch.Generator().manual_seed(1))
        for _, parameter in adapter.named_parameters():
            parameter.data.normal_(0, 0.1, generator=torch.Generator().manual_seed(2))
        cache, lengths, ids = filled(network, 5)
        agree(network, 5)
        with_it = kernel_logits(network, copy.deepcopy(cache), lengths, ids)
        with adapter.disabled():
            without = kernel_logits(network, cache, lengths, ids)
        assert (with_it - without).abs().max() > 0.1


def test_rotary_embeddings_that_grow_with_the_length_are_taken_anew() -> None:
    rope = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}
    network = network_of("llama", rope_parameters=rope, max_position_embeddings=16)
    agree(network, 5)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_row_s_numbers_do_not_depend_on_the_rows_beside_it(kind: torch.dtype) -> None:
    network = network_of("llama", kind)
    cache, lengths, ids = filled(network, 8)
    together = kernel_logits(network, copy.deepcopy(cache), lengths, ids)
    for rows in (1, 2, 3, 5, 7):
        fewer = kernel_logits(network, copy.deepcopy(cache), lengths[:rows], ids[:rows])
        assert torch.equal(fewer, together[:rows])


def test_other_families_and_devices_keep_transformers_forward() -> None:
    assert decoder_of(network_of("gemma2")) is None
    assert decoder_of(Network(tiny_model("llama").double())) is None
    assert decoder_of(network_of("llama")) is not None
    with native.plain():
        assert decoder_of(network_of("llama")) is None


def test_a_window_hides_what_is_behind_it() -> None:
    network = network_of("mistral")
    cache, _, ids = filled(network, 2)
    other = copy.deepcopy(cache)
    for tensor in (*other.keys.values(), *other.values.values()):
        tensor[:, :, : 30 - WINDOW + 1] = 9.0
    assert torch.equal(kernel_logits(network, cache, [30, 30], ids), kernel_logits(network, other, [30, 30], ids))


def test_a_step_without_memory_is_an_error() -> None:
    sizes = [1] * 9
    network = decode._Decoder(None, None, decode._Matrix(), *sizes, 1e-5, 1.0)
    step = decode._Step(*[None] * 7, 1 << 60, 1)
    with pytest.raises(MemoryError, match=r"^decode_step: out of memory$"):
        native.call("decode_step", *(native.Address(ctypes.addressof(x)) for x in (network, step)))


def test_peaks_are_argmax_and_logsumexp() -> None:
    logits = torch.randn(5, 1003) * 4
    logits[2, 7] = logits[2, 900] = 50.0
    (at, mass), (expected_at, expected_mass) = peaks(logits), reference_peaks(logits)
    assert at.tolist() == [*expected_at[:2].tolist(), 7, *expected_at[3:].tolist()]
    torch.testing.assert_close(mass, expected_mass, rtol=1e-6, atol=1e-6)
