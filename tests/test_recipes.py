"""Every recipe that comes with pacos, as written, from `pacos train` over `pacos eval` to `pacos chat`.

The bases are two-layer random models of the recipe's own architecture, with the published tokenizers where
../shared/data/tokenizers is there and small ones of the same kind where it is not. What a recipe says of method, targets,
template, precision and schedule stays; only paths and sizes are made small.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from pacos.recipes import names
from tests.conftest import Cli
from tests.prompts_tokenizers import SHARED, llama_tokenizer, phi3_tokenizer
from tests.tiny import tiny_model, tiny_tokenizer

COLOURS = ("red", "green", "blue", "black", "white", "pink")
PHI3 = ("phi3", "phi-3-mini", phi3_tokenizer)
LLAMA2 = ("llama", "llama2", llama_tokenizer)
BASES: dict[str, tuple[str, str, Callable[[], Any]]] = {
    "quickstart": ("llama", "", tiny_tokenizer),
    "phi3-lora-alpaca": PHI3,
    "phi3-qlora": ("phi3", "phi-3", phi3_tokenizer),
    "llama2-alpaca-qlora": LLAMA2,
    "alpaca-7b": LLAMA2,
    "alpaca-lora": LLAMA2,
}
"""Recipe -> family of its base, its tokenizer under ../shared/data/tokenizers, and the one that stands in for it."""
OTHERS = [
    ("alpaca-lora", "mistral", "mistral-v1", llama_tokenizer),
    ("llama2-alpaca-qlora", "qwen2", "", tiny_tokenizer),
    ("quickstart", "gemma2", "", tiny_tokenizer),
]
RUNS = [(recipe, *base) for recipe, base in BASES.items()] + OTHERS
MODULES = {
    "quickstart": {"q_proj", "k_proj", "v_proj", "o_proj"},
    "phi3-lora-alpaca": {"qkv_proj", "o_proj"},
    "phi3-qlora": {"qkv_proj"},
    "llama2-alpaca-qlora": {"q_proj", "v_proj"},
    "alpaca-lora": {"q_proj", "k_proj", "v_proj", "o_proj"},
}
"""The matrices that each recipe's adapter is on, as PEFT names them."""


def save_base(folder: Path, family: str, tokenizer_name: str, stand_in: Callable[[], Any]) -> Path:
    """A base in a folder: a random model with as many embeddings as its tokenizer has ids."""
    from transformers import PreTrainedTokenizerFast

    real = SHARED / "tokenizers" / tokenizer_name
    known = tokenizer_name and real.exists()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(real) if known else stand_in()
    tokenizer.save_pretrained(folder)
    rows = 32064 if known and family == "phi3" else len(tokenizer)
    tiny_model(family, vocab_size=rows, max_position_embeddings=2048).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def alpaca_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """28 rows in Alpaca's JSON, half of them with input."""
    rows = [
        {
            "instruction": f"Say the colour of thing {i * 7 % 31} and then count to {i}.",
            "input": f"thing {i * i}" if i % 2 else "",
            "output": f"{COLOURS[i % 6]}, {i}",
        }
        for i in range(28)
    ]
    path = tmp_path_factory.mktemp("alpaca") / "alpaca_data.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def arguments(recipe: str, base: Path, data: Path, *more: str) -> list[str]:
    """`pacos train RECIPE` on small things, with nothing changed of what the recipe is about."""
    settings = {
        "model.base": base,
        "model.device": "cpu",
        "data.path": data,
        "data.test_share": 0.2,
        "train.max_steps": 2,
        "train.batch_size": 6,
        "eval.limit": 3,
        "eval.max_new_tokens": 4,
        "eval.resamples": 100,
    }
    return ["train", recipe, *(f"--set={key}={value}" for key, value in settings.items()), *more]


def on_a_cpu(recipe: str) -> list[str]:
    """The one thing in a recipe that a CPU cannot do: the paged 8-bit optimizer."""
    return ["--set=train.optimizer=adamw"] if recipe == "phi3-qlora" else []


def logits(network: Any, ids: list[int]) -> torch.Tensor:
    from pacos.models import Packed

    layout = Packed([len(ids)])
    with torch.no_grad():
        return network.logits(network.hidden(torch.tensor([ids]), layout.positions()[None], layout)[0])


def test_every_recipe_is_run_here() -> None:
    assert sorted(BASES) == names()
    assert {family for _, family, *_ in RUNS} == {"llama", "phi3", "mistral", "qwen2", "gemma2"}


@pytest.mark.parametrize(("recipe", "family", "tokenizer", "stand_in"), RUNS)
def test_a_recipe_trains_evaluates_and_chats(
    recipe: str,
    family: str,
    tokenizer: str,
    stand_in: Callable[[], Any],
    cli: Cli,
    alpaca_rows: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = save_base(tmp_path / "base", family, tokenizer, stand_in)
    code, out, err = cli(*arguments(recipe, base, alpaca_rows, *on_a_cpu(recipe)))
    assert code == 0, err
    assert "trained 2 steps" in out
    folder = tmp_path / "runs" / recipe
    record = json.loads((folder / "pacos.json").read_text(encoding="utf-8"))
    written = yaml.safe_load((Path(__file__).parents[1] / "pacos" / "recipes" / f"{recipe}.yaml").read_text())
    assert record["recipe"]["method"] == written["method"]
    assert record["contract"]["template"]["name"] == written["prompt"]["template"]
    assert record["compute_dtype"] == ("float32" if recipe == "quickstart" and not _bf16() else "bfloat16")
    code, out, err = cli("eval", folder, "--json")
    assert code == 0, err
    evaluation = json.loads(out)
    assert (evaluation["num_rows"], len(evaluation["rows"])) == (3, 3)
    assert {m["name"] for m in evaluation["metrics"]} >= {"perplexity", "rouge_l", "bleu", "exact_match"}
    monkeypatch.setattr("sys.stdin", io.StringIO("Name a colour.\n/reset\nAnd another one.\nquit\nnever read\n"))
    code, out, err = cli("chat", folder, "--max-new-tokens", 4)
    assert code == 0, err
    assert out.count("\n") >= 2
    if written["method"] == "full":
        loads_in_transformers(folder)
    else:
        peft_gives_our_logits(base, folder, recipe, family)


def _bf16() -> bool:
    from pacos.models.load import has_native_bf16

    return has_native_bf16(torch.device("cpu"))


def peft_gives_our_logits(base: Path, folder: Path, recipe: str, family: str) -> None:
    """PEFT reads the run's folder onto the plain base, and computes what we compute; and not what the base does."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from pacos.models import Network, load_adapter, load_model

    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert set(config["target_modules"]) == ({"q_proj", "v_proj"} if family == "qwen2" else MODULES[recipe])
    ids = json.loads((folder / "pacos.json").read_text())["contract"]["probes"][0]["prompt_ids"]
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with torch.no_grad():
        theirs = PeftModel.from_pretrained(plain, folder)(input_ids=torch.tensor([ids])).logits[0]
    loaded = load_model(str(base), dtype="fp32", device="cpu")
    network = Network(loaded.model)
    before = logits(network, ids)
    load_adapter(loaded.model, folder)
    ours = logits(network, ids)
    effect = float((ours - before).abs().max())
    assert effect > 1e-4
    assert float((ours - theirs).abs().max()) < 0.02 * effect


def loads_in_transformers(folder: Path) -> None:
    """The folder of a full fine-tuning is a model for transformers, with its tokenizer and chat template."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.config.num_hidden_layers == 2
    saved = load_file(folder / "model.safetensors")
    assert torch.equal(model.get_input_embeddings().weight, saved["model.embed_tokens.weight"])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = tokenizer.apply_chat_template([{"role": "user", "content": "Hello."}], tokenize=False)
    assert "### Instruction:\nHello." in text


def test_the_paged_optimizer_without_a_gpu_is_one_clear_error(cli: Cli, alpaca_rows: Path, tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", *PHI3)
    code, out, err = cli(*arguments("phi3-qlora", base, alpaca_rows))
    assert (code, out) == (2, "")
    assert err.splitlines()[-1] == (
        "pacos: train.optimizer: 'paged_adamw_8bit' needs a CUDA device, and this run is on 'cpu'; use adamw"
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("recipe", ["phi3-lora-alpaca", "alpaca-7b"])
def test_a_recipe_s_rows_are_shown_with_equal_ids_at_training_and_serving(
    recipe: str, cli: Cli, alpaca_rows: Path, tmp_path: Path
) -> None:
    base = save_base(tmp_path / "base", *BASES[recipe])
    code, out, err = cli(*arguments(recipe, base, alpaca_rows, "--show-rows", "3"))
    assert code == 0, err
    assert out.count("      the same ") == 3
    assert ("<|user|>" if recipe == "phi3-lora-alpaca" else "### Instruction:\nSay the colour") in out


@pytest.mark.parametrize("recipe", names())
def test_a_recipe_s_dry_run_needs_no_weights(recipe: str, cli: Cli, alpaca_rows: Path, tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", *BASES[recipe])
    (base / "model.safetensors").unlink()
    code, out, err = cli(*arguments(recipe, base, alpaca_rows, "--dry-run", "--json"))
    assert code == 0, err
    plan = json.loads(out)
    assert plan["steps"] == 2
    parts = {key: value for key, value in plan["memory_bytes"].items() if key != "total"}
    assert plan["memory_bytes"]["total"] == sum(parts.values())
    assert not (tmp_path / "runs").exists()
