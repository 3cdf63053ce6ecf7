"""Any causal language model of transformers: packed where that is exact, row by row elsewhere, and the same numbers."""

from __future__ import annotations

import copy
import io
import json
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import Tensor

from pacos.errors import UsageError
from pacos.inference import Engine, Sampling
from pacos.models import LoraSpec, Network, Packed, attach, load_adapter, load_model, save_adapter, unwrap
from pacos.models.lora import linears_by_layer
from pacos.models.packs import build_pack
from pacos.models.plain import rows_of
from pacos.models.probe import MIXTURES, PACKED, PLAIN, ways_of
from pacos.prompts import Rendered
from pacos.training.train import accumulate
from tests.conftest import Cli
from tests.families import tiny_of
from tests.rows import random_rows
from tests.tiny import tiny_tokenizer

ALONE = {
    "bloom": "packed rows would change its logits",
    "codegen": "packed rows would change its logits",
    "falcon": "its layers do not take a layout of rows",
    "gpt_neox_japanese": "packed rows would change its logits",
    "gpt_oss": "its layer_types is not known to hold in packed rows",
    "gptj": "packed rows would change its logits",
    "jamba": "its layer_types is not known to hold in packed rows",
    "mamba": "its layer_types is not known to hold in packed rows",
    "modernbert-decoder": "its head does not stand directly behind its layers",
    "mpt": "its layers do not take a layout of rows",
    "openai-gpt": "packed rows would change its logits",
    "recurrent_gemma": "its layer_types is not known to hold in packed rows",
    "rwkv": "packed rows would change its logits",
    "stablelm": "its layers do not take a layout of rows",
    "xglm": "packed rows would change its logits",
}
"""Families whose rows are computed one by one, and what is said of each."""
WITHOUT_MEMORY = ("openai-gpt", "recurrent_gemma")

TARGETS = {
    "bloom": ("query_key_value", "dense"),
    "cohere": ("q_proj", "v_proj"),
    "falcon": ("query_key_value", "dense_4h_to_h"),
    "gpt2": ("c_attn", "c_proj"),
    "gpt_neox": ("query_key_value", "dense"),
    "gptj": ("q_proj", "fc_in"),
    "granite": ("q_proj", "down_proj"),
    "mamba": ("in_proj", "x_proj"),
    "nanochat": ("q_proj", "o_proj"),
    "opt": ("q_proj", "fc1"),
    "phi": ("q_proj", "dense"),
    "stablelm": ("q_proj", "o_proj"),
}


def own_logits(model: Any, row: Rendered) -> Tensor:
    """Logits that predict the targets of one row, by the model's own forward pass, (N, V)."""
    at = [i - 1 for i in range(1, len(row.ids)) if row.loss_mask[i]]
    return model(input_ids=torch.tensor([row.ids]), use_cache=False).logits[0, at]


@torch.no_grad()
def assert_same_logits(network: Network, model: Any) -> None:
    rows = random_rows(4)
    wanted = torch.cat([own_logits(model, row) for row in rows])
    torch.testing.assert_close(network.logits(build_pack(rows).hidden(network)), wanted, rtol=1e-4, atol=3e-5)


def assert_same_answers(network: Network, model: Any, *, cached: bool = True) -> None:
    """Greedy ids beyond the sliding window equal those of transformers' generate."""
    prompts = [list(row.ids) for row in random_rows(3)]
    options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "pad_token_id": 0, "use_cache": cached}
    wanted = [tuple(model.generate(torch.tensor([p]), **options)[0, len(p) :].tolist()) for p in prompts]
    answers = Engine(network, (), slots=2).generate(prompts, Sampling(max_new_tokens=6))
    assert [answer.ids for answer in answers] == wanted


@pytest.mark.parametrize("family", PACKED)
def test_families_that_are_packed_give_their_own_logits_and_answers(family: str) -> None:
    model = tiny_of(family)
    network = Network(copy.deepcopy(model))
    assert network.packs
    assert network.decodes
    assert network.pace_note(training=True) == ""
    assert_same_logits(network, model)
    assert_same_answers(network, model)


@pytest.mark.parametrize("family", ALONE)
def test_other_families_are_computed_row_by_row_with_the_same_logits_and_answers(family: str) -> None:
    model = tiny_of(family)
    network = Network(copy.deepcopy(model))
    why = f"model type '{family}': each row is computed alone, exact but slower than packed: {ALONE[family]}"
    assert network.pace_note(training=True) == why
    assert not network.packs
    assert_same_logits(network, model)
    assert_same_answers(network, model, cached=family != "openai-gpt")
    assert network.remembers == (family not in WITHOUT_MEMORY)


@pytest.mark.parametrize("family", sorted(set(PACKED) - set(PLAIN + MIXTURES) | {"gptj", "bloom"}))
def test_what_a_model_can_do_is_found_in_16_bits_too(family: str) -> None:
    assert ways_of(tiny_of(family).bfloat16()).packs == (family in PACKED)


@pytest.mark.parametrize("family", TARGETS)
def test_loss_and_gradients_equal_those_of_transformers_and_peft(family: str, tmp_path: Path) -> None:
    live = tiny_of(family)
    base = copy.deepcopy(live)
    network = Network(live)
    adapter = attach(live, LoraSpec(4, 8.0, 0.0, TARGETS[family]), torch.Generator().manual_seed(1))
    for name, p in adapter.named_parameters():
        p.requires_grad_(True)
        if name.endswith("lora_B"):
            p.data.normal_(std=0.1, generator=torch.Generator().manual_seed(p.numel()))
    save_adapter(adapter, tmp_path, base_name="tiny")
    theirs: Any = peft.PeftModel.from_pretrained(base, tmp_path, is_trainable=True)
    live.train()
    theirs.train()
    rows = random_rows(4)
    loss = accumulate(network, [build_pack(rows)])
    num_targets = sum(sum(row.loss_mask) for row in rows)
    wanted = 0.0
    for row in rows:
        targets = torch.tensor([id for id, counts in zip(row.ids, row.loss_mask, strict=True) if counts])
        nll = torch.nn.functional.cross_entropy(own_logits(theirs, row), targets, reduction="sum") / num_targets
        nll.backward()
        wanted += float(nll.detach())
    assert loss == pytest.approx(wanted, rel=1e-5)
    gradients = {name: p.grad for name, p in theirs.named_parameters() if p.grad is not None}
    assert len(gradients) == 2 * len(adapter.modules)
    for name, module in adapter.modules.items():
        for letter, mine in (("A", module.a[0]), ("B", module.b[0])):
            torch.testing.assert_close(
                mine.grad, gradients[f"base_model.model.{name}.lora_{letter}.default.weight"], rtol=1e-4, atol=1e-5
            )


def test_gpt2_s_two_c_proj_are_both_adapted_and_either_can_be_named_alone(tmp_path: Path) -> None:
    both = attach(tiny_of("gpt2"), LoraSpec(2, 4.0, 0.0, ("c_proj",)), torch.Generator())
    assert list(both.modules) == [f"transformer.h.{i}.{part}.c_proj" for i in (0, 1) for part in ("attn", "mlp")]
    model = tiny_of("gpt2")
    one = attach(model, LoraSpec(2, 4.0, 0.0, ("mlp.c_proj",)), torch.Generator())
    assert list(one.modules) == [f"transformer.h.{i}.mlp.c_proj" for i in (0, 1)]
    next(p for name, p in one.named_parameters() if name.endswith("lora_B")).data.fill_(0.1)
    save_adapter(one, tmp_path, base_name="tiny")
    assert load_adapter(tiny_of("gpt2"), tmp_path).modules.keys() == one.modules.keys()


def test_unwrapping_gives_gpt2_its_own_modules_back() -> None:
    model = tiny_of("gpt2")
    before = dict(model.named_modules())
    unwrap(model, attach(model, LoraSpec(2, 4.0, 0.0, ("c_attn",)), torch.Generator()))
    assert dict(model.named_modules()) == before


def test_a_target_of_one_kind_of_layer_is_adapted_where_that_kind_is() -> None:
    model = tiny_of("jamba", num_hidden_layers=4, attn_layer_period=2, attn_layer_offset=1)
    adapter = attach(model, LoraSpec(2, 4.0, 0.0, ("q_proj",)), torch.Generator())
    assert list(adapter.modules) == [f"model.layers.{i}.self_attn.q_proj" for i in (1, 3)]
    model.model.layers[3].self_attn.k_proj = torch.nn.Identity()
    with pytest.raises(UsageError, match="1 of 4 layers has 'k_proj'"):
        attach(model, LoraSpec(2, 4.0, 0.0, ("k_proj",)), torch.Generator())


def test_a_matrix_that_mamba_reads_past_its_adapter_is_refused() -> None:
    with pytest.raises(UsageError, match="'out_proj' of model type 'mamba' cannot be adapted"):
        attach(tiny_of("mamba"), LoraSpec(2, 4.0, 0.0, ("in_proj", "out_proj")), torch.Generator())


def test_rwkv_computes_the_same_in_training_as_out_of_it() -> None:
    model = tiny_of("rwkv", num_hidden_layers=3, rescale_every=1)
    network = Network(model)
    adapter = attach(model, LoraSpec(2, 4.0, 0.0, ("output",)), torch.Generator().manual_seed(0))
    for _, p in adapter.named_parameters():
        p.data.fill_(0.1)
    pack = build_pack(random_rows(2))
    with torch.no_grad():
        out = pack.hidden(network)
        model.train()
        torch.testing.assert_close(pack.hidden(network), out, rtol=1e-4, atol=1e-5)


def test_a_wrong_target_lists_the_family_s_own_names() -> None:
    with pytest.raises(UsageError) as error:
        attach(tiny_of("bloom"), LoraSpec(2, 4.0, 0.0, ("q_proj",)), torch.Generator())
    assert str(error.value).splitlines() == [
        "lora.targets: no layer has 'q_proj'",
        "  this model has: dense, dense_4h_to_h, dense_h_to_4h, query_key_value",
    ]


@pytest.mark.parametrize(("family", "layers"), [("gpt2", "transformer.h"), ("opt", "model.decoder.layers")])
def test_layers_are_found_whatever_their_list_is_called(family: str, layers: str) -> None:
    assert list(linears_by_layer(tiny_of(family))) == [f"{layers}.0", f"{layers}.1"]


@pytest.mark.parametrize("family", ["doge", "phimoe"])
def test_a_window_that_a_few_tokens_cannot_show_is_not_believed(family: str) -> None:
    model = tiny_of(family)
    network = Network(copy.deepcopy(model))
    assert network.ways.reason == "its sliding_window is not known to hold in packed rows"
    assert_same_logits(network, model)
    assert ways_of(tiny_of(family, sliding_window=None)).packs


def test_answers_are_written_alone_where_only_the_packed_forward_pass_is_known() -> None:
    model = tiny_of("diffllama")
    network = Network(copy.deepcopy(model))
    assert (network.packs, network.decodes) == (True, False)
    assert network.pace_note(training=True) == ""
    assert network.pace_note(training=False) == "model type 'diffllama': answers are written one by one"
    assert_same_answers(network, model)
    assert_same_logits(network, model)


def test_attention_dropout_is_kept_by_training_row_by_row_and_costs_an_evaluation_nothing() -> None:
    network = Network(tiny_of("gpt2", attn_pdrop=0.5))
    rows = random_rows(3)
    assert network.packs
    assert network.pace_note(training=False) == ""
    assert network.pace_note(training=True).endswith("it has attention dropout 0.5, and packed rows have none")
    network.model.train()
    assert not network.packs
    first, second = (build_pack(rows).hidden(network) for _ in range(2))
    assert not torch.allclose(first, second, atol=1e-3)
    network.model.eval()
    assert_same_logits(network, tiny_of("gpt2", attn_pdrop=0.5))


@pytest.mark.parametrize("place", ["cpu", "meta"])
def test_a_model_that_reads_ahead_is_refused_with_weights_and_without(place: str) -> None:
    with pytest.raises(UsageError) as error:
        Network(tiny_of("bert").to(place))
    assert str(error.value) == (
        "model type 'bert' reads ahead: its logits depend on tokens that come after; "
        "pacos trains causal language models alone"
    )
    for decoder in (tiny_of("bert", is_decoder=True), tiny_of("bart")):  # of the latter, transformers makes one itself
        assert len(Network(decoder.to(place)).head.weight) == 320


def test_an_encoder_decoder_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    tiny_of("bart", is_encoder_decoder=True).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"is_encoder_decoder": True}))
    with pytest.raises(UsageError) as error:
        load_model(str(tmp_path))
    text = f"{tmp_path}: model type 'bart' is an encoder-decoder; pacos trains decoders alone"
    assert str(error.value) == text


def test_every_row_of_a_pack_is_a_chain_of_its_segments() -> None:
    #      0        a row that ends where others go on has its tokens read with theirs
    #     / \
    #    1   2     5
    #       / \
    #      3   4
    layout = Packed([1] * 6, [-1, 0, 0, 2, 2, -1])
    assert rows_of(layout) == [[0, 1], [0, 2, 3], [0, 2, 4], [5]]


@pytest.mark.parametrize(("family", "target"), [("gpt2", "c_attn"), ("rwkv", "receptance")])
def test_any_family_trains_on_four_bit_weights_whatever_its_head_is_called(
    family: str, target: str, tmp_path: Path
) -> None:
    tiny_of(family).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    model = load_model(str(tmp_path), dtype="fp32", device="cpu", quantization="nf4").model
    network = Network(model)
    assert network.dtype == torch.float32
    adapter = attach(model, LoraSpec(2, 4.0, 0.0, (target,)), torch.Generator().manual_seed(0))
    assert all(module.base.weight.dtype == torch.uint8 for module in adapter.modules.values())
    for _, p in adapter.named_parameters():
        p.requires_grad_(True)
    accumulate(network, [build_pack(random_rows(2))])
    assert all(module.b[0].grad.any() for module in adapter.modules.values())


def test_rows_longer_than_the_model_reads_are_refused_before_training() -> None:
    network = Network(tiny_of("gpt2"))
    network.refuse_longer(128)
    with pytest.raises(UsageError) as error:
        network.refuse_longer(129)
    assert str(error.value) == (
        "train.max_length: rows of 129 tokens, and this model of type 'gpt2' reads 128; give train.max_length=128 or less"
    )
    Network(tiny_of("bloom")).refuse_longer(100_000)


@pytest.mark.parametrize(
    ("family", "how"),
    [
        ("gpt2", {"lora.targets": ["c_attn", "c_proj"]}),
        ("bloom", {"lora.targets": ["query_key_value"]}),
        ("stablelm", {"method": "full", "lora": "null", "train.gradient_checkpointing": True}),
    ],
)
def test_train_eval_and_chat_work_on_any_family(
    family: str,
    how: dict[str, Any],
    cli: Cli,
    tiny_run: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = tmp_path / "base"
    tiny_of(family, **({} if family == "bloom" else {"max_position_embeddings": 512})).save_pretrained(base)
    tiny_tokenizer().save_pretrained(base)
    sizes = {"train.max_length": 256, "train.pack_tokens": 512}
    settings = {"model.base": base, "prompt.template": "alpaca", **sizes, **how}
    kept = [option for option in tiny_run if "method" not in how or "lora." not in option]
    code, _, err = cli(*kept, *(f"--set={key}={value}" for key, value in settings.items()), "--out", "run")
    assert code == 0, err
    assert ("each row is computed alone" in err) == (family != "gpt2")
    code, out, err = cli("eval", "run", "--json")
    assert code == 0, err
    assert json.loads(out)
    monkeypatch.setattr(sys, "stdin", io.StringIO("Name a colour.\n"))
    code, out, err = cli("chat", "run", "--max-new-tokens", 4)
    assert code == 0, err
    assert out.strip()
