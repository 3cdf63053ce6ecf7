"""`pacos plan`: known points are met, fits and does not fit are told apart, time and dollars follow from their parts."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from pacos.cli.plan_tables import money, roughly, size
from pacos.errors import UsageError, UserError
from pacos.models.packs import make_packs
from pacos.models.quantize import count_parameters
from pacos.prompts import Rendered
from pacos.recipes import Recipe, load_recipe
from pacos.training.devices import DEVICES, HERE, Device, Efficiency, find_device, parse_bytes
from pacos.training.known import DATA, MODELS, known_config
from pacos.training.measure import interval, matmul_flops, physical_memory, this_machine
from pacos.training.memory import shallow
from pacos.training.plan import EIGHT, METHODS, Plan, as_method, make_plan, methods_of, with_checkpointing
from pacos.training.shapes import shape_of
from pacos.training.symbolic import Trace
from pacos.training.work import Count, alike, count, evaluation_flops, filled, training_flops, work_by
from tests.conftest import Cli
from tests.families import tiny_config
from tests.tiny import tiny_model

GIB = 2**30
RUNTIME = 400 << 20
PARAMETERS = {
    "microsoft/Phi-3-mini-4k-instruct": 3_821_079_552,
    "meta-llama/Llama-2-7b-hf": 6_738_415_616,
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Llama-3.2-3B": 3_212_749_824,
    "mistralai/Mistral-7B-v0.1": 7_241_732_096,
    "google/gemma-2-2b": 2_614_341_888,
    "Qwen/Qwen2.5-0.5B": 494_032_768,
    "Qwen/Qwen2.5-1.5B": 1_543_714_304,
    "Qwen/Qwen2.5-7B": 7_615_616_512,
    "HuggingFaceTB/SmolLM2-135M": 134_515_008,
}
"""As their makers publish them."""


def plan_of(name: str, *overrides: str) -> Plan:
    """Without the weights, the tokenizer or the data."""
    recipe = load_recipe(name, overrides)
    config = known_config(recipe.model.base)
    assert config is not None
    return make_plan(recipe, work_by(DATA[recipe.data.path], recipe), config, RUNTIME)


@pytest.fixture(scope="module")
def alpaca_7b() -> Plan:
    return plan_of("alpaca-7b")


@pytest.fixture(scope="module")
def alpaca_lora() -> Plan:
    return plan_of("alpaca-lora", "train.pack_tokens=1024")


@pytest.mark.parametrize("name", PARAMETERS)
def test_published_shapes_have_the_published_number_of_parameters(name: str) -> None:
    config: Any = known_config(name)
    one, two = (count_parameters(shape_of(shallow(config, layers), torch.bfloat16)) for layers in (1, 2))
    assert one + (config.num_hidden_layers - 1) * (two - one) == PARAMETERS[name]
    assert name in MODELS


def test_phi_3_mini_with_qlora_fits_8_gb() -> None:
    plan = plan_of("phi3-lora-alpaca")
    estimate = plan.estimate("qlora", find_device("rtx 3070"))
    assert estimate.fits
    assert 2.0 < estimate.memory.weights / GIB < 2.3
    assert not plan.estimate("lora", find_device("rtx 3070")).fits


def test_lora_of_a_7b_model_in_bf16_fits_24_gb(alpaca_lora: Plan) -> None:
    estimate = alpaca_lora.estimate("lora", find_device("4090"))
    assert estimate.fits
    assert 12 < estimate.memory.weights / GIB < 13


def test_full_fine_tuning_of_a_7b_model_needs_several_80_gb_devices(alpaca_7b: Plan) -> None:
    a100 = find_device("a100 80gb")
    alone, four = (alpaca_7b.estimate("full", a100, devices=n) for n in (1, 4))
    weights, masters, gradients, moments = 2, 4, 4, 8
    expected = (weights + masters + gradients + moments) * PARAMETERS["meta-llama/Llama-2-7b-hf"]
    parts = alone.memory
    assert parts.weights + parts.trained + parts.gradients + parts.optimizer == pytest.approx(expected, rel=1e-6)
    assert not alone.fits
    assert four.fits
    assert alone.memory.total > 1.4 * a100.memory
    assert four.memory.total < 0.5 * a100.memory


def test_divided_weights_take_their_share_and_what_is_gathered(alpaca_7b: Plan) -> None:
    a100, number = find_device("a100 80gb"), PARAMETERS["meta-llama/Llama-2-7b-hf"]
    memory = alpaca_7b.estimate("full", a100, devices=4).memory
    trace = alpaca_7b.demand(alpaca_7b.recipe, torch.bfloat16).trace
    assert memory.trained == number  # 4 bytes over 4 devices
    assert memory.optimizer == 2 * number
    assert memory.weights == trace.outside_bytes + 2 * trace.layer_bytes


def test_eight_bits_halve_the_matrices_and_are_marked_as_planned_only(alpaca_7b: Plan) -> None:
    device = find_device("h100")
    lora, eight = (alpaca_7b.estimate(method, device) for method in ("lora", EIGHT))
    matrices = alpaca_7b.demand(as_method(alpaca_7b.recipe, "lora"), torch.bfloat16).trace.layers
    assert lora.memory.weights - eight.memory.weights == matrices
    assert lora.trains
    assert not eight.trains


def test_the_largest_pack_fits_and_a_fifth_more_does_not(alpaca_lora: Plan) -> None:
    device = find_device("4090")
    largest = alpaca_lora.estimate("lora", device).largest_pack
    sizes = [alpaca_lora.demand(alpaca_lora.recipe, torch.bfloat16, size) for size in (largest, round(1.2 * largest))]
    totals = [alpaca_lora.memory("lora", demand, device, 1).total for demand in sizes]
    assert largest > 1000
    assert totals[0] <= device.memory < totals[1]


def test_time_is_arithmetic_over_rate_and_dollars_are_time(alpaca_7b: Plan) -> None:
    device = Device("d", "cpu", 10**12, 1e14)
    estimate = alpaca_7b.estimate("full", device, price=2.0, devices=2, efficiency=Efficiency(0.5, 0.5))
    flops = alpaca_7b.flops(alpaca_7b.recipe, alpaca_7b.demand(alpaca_7b.recipe, torch.bfloat16))
    assert estimate.seconds is not None
    assert estimate.dollars is not None
    assert estimate.seconds == pytest.approx((flops / 1e14, flops / 1e14))
    assert estimate.dollars[0] == pytest.approx(flops / 1e14 / 3600 * 4.0)


def test_a_device_of_unknown_rate_has_no_time(alpaca_7b: Plan) -> None:
    estimate = alpaca_7b.estimate("full", Device("24GB", "cuda", 24 * 10**9, 0.0), price=1.0)
    assert estimate.seconds is None
    assert estimate.dollars is None


def trace_of(layers: int, head: int, adapters: int) -> Trace:
    return Trace({}, layers, head, adapters, 0, 0, 0, 0)


def test_arithmetic_is_four_a_frozen_weight_six_a_trained_one_and_the_head_on_targets() -> None:
    config, recipe = tiny_model("llama").config, load_recipe("quickstart")
    trace, counted = trace_of(1000, 10, 7), Count(packs=1, tokens=100, targets=20, pairs=0)
    full = as_method(recipe, "full")
    checkpointed = recipe.model_copy(update={"train": recipe.train.model_copy(update={"gradient_checkpointing": True})})
    assert training_flops(trace, config, recipe, counted) == 100 * (4 * 1000 + 6 * 7) + 20 * 4 * 10
    assert training_flops(trace, config, full, counted) == 100 * (6 * 1000 + 6 * 7) + 20 * 6 * 10
    assert training_flops(trace, config, checkpointed, counted) == 100 * (6 * 1000 + 8 * 7) + 20 * 4 * 10
    assert evaluation_flops(trace, config, counted) == 2 * (100 * 1007 + 20 * 10)


def test_attention_is_counted_by_the_pairs_of_tokens_that_see_each_other() -> None:
    config = tiny_model("llama").config
    layers, heads, size, pairs = 2, 4, 16, 10
    alone = evaluation_flops(trace_of(0, 0, 0), config, Count(pairs=pairs))
    assert alone == 2 * 2 * layers * heads * size * pairs


def test_pairs_of_a_pack_are_those_of_its_rows_a_shared_beginning_counted_once() -> None:
    rows = [Rendered((1, 2, 3, 4, 5, 6, at, at), (False,) * 7 + (True,)) for at in (7, 8)]
    shared = count(make_packs(rows))
    assert (shared.packs, shared.tokens, shared.targets) == (1, 10, 2)
    assert shared.pairs == 6 * 7 / 2 + 2 * (7 + 8)
    apart = count(make_packs(rows[:1]))
    assert apart.pairs == 8 * 9 / 2


def test_data_that_is_not_at_hand_is_planned_by_what_is_known_of_it() -> None:
    recipe = load_recipe("alpaca-7b")
    work = work_by(DATA["tatsu-lab/alpaca"], recipe)
    rows = round(52002 * (1 - recipe.data.validation_share - recipe.data.test_share))
    assert work.steps == math.ceil(rows / 128) * 3
    assert 0.75 * 3 * rows * 112 < work.training.tokens <= work.steps * 128 * 112
    assert "not tokenized here" in work.origin
    assert max(len(row.ids) for row in work.longest) == recipe.train.max_length


def test_rows_that_stand_for_others_share_no_beginning() -> None:
    rows = [alike(i, 20, 0.5) for i in range(4)]
    assert [sum(row.loss_mask) for row in rows] == [10] * 4
    assert count(make_packs(rows, 80)).tokens == 80
    assert len(filled(rows, 75)) == 3
    assert len(filled(rows, 5)) == 1


@pytest.mark.parametrize(
    ("text", "size"),
    [("24GB", 24 * 10**9), ("16 GiB", 16 * 2**30), ("512M", 512 * 10**6), ("1e9", 10**9), ("1.5g", 1500000000)],
)
def test_sizes_are_read_with_their_units(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "much", "-3GB", "0", "24XB", "1.2.3G", "1e400", "1e30"])
def test_what_is_no_size_is_an_error(text: str) -> None:
    with pytest.raises(UsageError, match="give a size, as in 24GB"):
        parse_bytes(text)


@pytest.mark.parametrize("name", ["RTX 4090", "rtx-4090", "4090", "RTX 4090 24GB", "rtx4090"])
def test_a_device_is_known_however_it_is_written(name: str) -> None:
    assert find_device(name).name == "RTX 4090 24GB"


def test_a_name_that_is_not_one_device_is_an_error_that_lists_them() -> None:
    with pytest.raises(UsageError, match="which one: A100 40GB, A100 80GB"):
        find_device("a100")
    with pytest.raises(UsageError, match="did you mean 'RTX 4090 24GB'"):
        find_device("RTX 4099 24GB")


def test_devices_have_distinct_names_and_plausible_figures() -> None:
    assert len({device.name for device in DEVICES}) == len(DEVICES) > 12
    for device in DEVICES:
        gigabytes = int(device.name.rsplit(" ", 1)[1].removesuffix("GB"))
        assert 0.92 * gigabytes <= device.memory / GIB <= gigabytes
        assert 2e13 < device.flops < 3e15
        assert 2e11 < device.bandwidth < 1e13


def test_the_interval_is_students_on_logarithms() -> None:
    mean, low, high = interval([1.0, 1.0, 8.0])
    spread = math.sqrt(((math.log(8) * 2 / 3) ** 2 + 2 * (math.log(8) / 3) ** 2) / 2)
    assert mean == pytest.approx(2.0)
    assert high == pytest.approx(2 * math.exp(4.303 * spread / math.sqrt(3)))
    assert low * high == pytest.approx(4.0)


def test_this_machine_has_memory_and_a_rate() -> None:
    assert 2**28 < physical_memory() < 2**50
    assert this_machine(torch.float32, torch.device("cpu")).flops > 1e8
    assert 1e8 < matmul_flops(torch.float32, torch.device("cpu"), size=128) < 1e14


def test_every_method_is_planned_the_recipe_s_own_first() -> None:
    recipe: Recipe = load_recipe("phi3-qlora")
    assert methods_of(recipe)[0] == "qlora"
    assert set(methods_of(recipe)) == set(METHODS)
    full = as_method(recipe, "full")
    assert (full.method, full.train.epochs, full.train.optimizer) == ("full", 2, "paged_adamw_8bit")
    assert as_method(full, "lora").lora.rank == 16


@pytest.fixture
def planned(tiny_run: list[str]) -> list[str]:
    """Arguments of a plan of the tiny run."""
    return ["plan", *tiny_run[1:]]


def test_a_plan_needs_no_weights(cli: Cli, planned: list[str], tiny_base: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in tiny_base.iterdir():
        if file.suffix != ".safetensors":
            (bare / file.name).write_bytes(file.read_bytes())
    code, stdout, stderr = cli(*planned, f"--set=model.base={bare}", "--json", "--hardware", "here")
    assert code == 0, stderr
    tree = json.loads(stdout)
    assert [e["method"] for e in tree["estimates"]] == ["lora", "full", EIGHT, "qlora"]
    assert tree["steps"] == 6
    memory = tree["estimates"][0]["memory"]
    assert memory["total"] == sum(value for key, value in memory.items() if key not in ("total", "phase"))


def test_a_plan_is_a_table_of_methods_and_devices(cli: Cli, planned: list[str]) -> None:
    code, stdout, stderr = cli(*planned, "--price", "1.5")
    assert code == 0, stderr
    lines = stdout.splitlines()
    assert lines[0].startswith("quickstart: lora on ")
    assert "6 steps" in lines[0]
    assert sum(line.startswith(("lora", "full", "qlora")) for line in lines) == 4
    for device in DEVICES:
        assert any(line.startswith(device.name) and "$" in line for line in lines)
    assert HERE in stdout


def test_a_recipe_that_does_not_fit_ends_with_4(cli: Cli, planned: list[str]) -> None:
    code, stdout, stderr = cli(*planned, "--memory", "500MiB")
    assert code == 4
    assert "quickstart does not fit on 500MiB: it needs 6" in stderr
    assert "nothing that is known here would make it fit" in stderr
    assert "memory at the peak" in stdout
    assert cli(*planned, "--memory", "24GB")[0] == 0


def test_what_would_make_a_run_fit_is_said_and_does(alpaca_lora: Plan) -> None:
    device = find_device("4080")
    assert not alpaca_lora.estimate("lora", device).fits
    remedies = list(alpaca_lora.remedies(device, 1))
    assert remedies[0].startswith("--set train.gradient_checkpointing=true: 13.")
    assert any(remedy.startswith("--set method=qlora: ") for remedy in remedies)
    changed = with_checkpointing(alpaca_lora.recipe)
    assert replace(alpaca_lora, recipe=changed).estimate("lora", device).fits


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hardware", "4090", "--memory", "24GB"], "give it or --memory, not both"),
        (["--measure", "--memory", "24GB"], "so --memory has no effect beside it"),
        (["--measure", "--hardware", "4090"], "so --hardware has no effect beside it"),
        (["--mfu", "0"], "give a share above 0"),
        (["--mfu", "nan"], "Invalid value for '--mfu'"),
        (["--price", "inf"], "--price inf: give a finite number"),
        (["--hardware", ""], "--hardware '': not known"),
        (["--memory", ""], "--memory '': give a size, as in 24GB"),
        (["--memory", "1e400"], "--memory 1e400: give a size, as in 24GB"),
        (["--set", "model.device=banana"], "model.device: 'banana' is not known; known: auto, cpu, cuda, cuda:N"),
    ],
)
def test_options_that_contradict_each_other_are_errors(
    arguments: list[str], message: str, cli: Cli, planned: list[str]
) -> None:
    code, _, stderr = cli(*planned, *arguments)
    assert code == 2
    assert message in stderr


def test_a_device_of_unknown_rate_with_a_price_has_a_question_mark_for_both(cli: Cli, planned: list[str]) -> None:
    code, stdout, stderr = cli(*planned, "--memory", "24GB", "--price", "2")
    assert code == 0, stderr
    assert sum(line.endswith("?") for line in stdout.splitlines()) == 4


def test_small_figures_keep_two_digits() -> None:
    assert [money(x) for x in (1234.0, 0.4, 0.0042, 0.0)] == ["$1,234.00", "$0.40", "$0.0042", "$0.00"]
    assert [size(x) for x in (0, 325_000, 7 << 20, 300 << 20)] == ["0 MiB", "0.31 MiB", "7.0 MiB", "300 MiB"]
    assert roughly(0.2, 0.4) == "under 1 s"
    assert roughly(90, 200) == "2 to 3 min"


def test_a_model_without_heads_has_no_attention_to_compute() -> None:
    config = AutoConfig.for_model("mamba", hidden_size=32, num_hidden_layers=2)
    assert evaluation_flops(trace_of(1000, 10, 7), config, Count(1, 100, 20, 500)) == 2 * (100 * 1007 + 20 * 10)


def full_plan(config: Any) -> Plan:
    recipe = load_recipe("quickstart", ["method=full", "lora=null"])
    return make_plan(recipe, work_by(DATA["tatsu-lab/alpaca"], recipe), config, RUNTIME)


@pytest.mark.parametrize("family", ["mixtral", "qwen2_moe"])
def test_a_mixture_of_experts_is_planned_in_fp32_too(family: str) -> None:
    plan = full_plan(tiny_config(family))
    wide, narrow = (plan.demand(plan.recipe, dtype).trace for dtype in (torch.float32, torch.bfloat16))
    assert wide.layers == narrow.layers
    assert wide.peaks["load"]["weights"] == pytest.approx(2 * narrow.peaks["load"]["weights"], rel=1e-3)
    assert wide.trained == narrow.trained
    assert wide.operations == pytest.approx(narrow.operations, rel=0.2)


def test_kinds_of_layers_that_follow_from_their_number_are_left_to_the_config() -> None:
    config = shallow(AutoConfig.for_model("bamba", num_hidden_layers=12, attn_layer_indices=[1]), 3)
    assert len(config.layer_types) == 3


def test_a_family_whose_step_does_not_run_on_shapes_is_a_line() -> None:
    plan = full_plan(tiny_config("deepseek_v3", qk_rope_head_dim=6, head_dim=8))
    with pytest.raises(
        UserError, match="cannot be planned: the step of model type 'deepseek_v3' does not run on shapes"
    ):
        plan.demand(plan.recipe, torch.float32)


@pytest.mark.parametrize(
    "option", ["train.pack_tokens=1000000000", "train.epochs=1000000000", "train.batch_size=1000000000"]
)
def test_huge_options_are_planned_without_walking_all_of_them(option: str, cli: Cli, planned: list[str]) -> None:
    assert cli(*planned, "--hardware", "4090", "--set", option)[0] == 0


def test_measuring_runs_three_steps_and_an_evaluation(cli: Cli, planned: list[str]) -> None:
    code, stdout, stderr = cli(*planned, "--measure", "--json")
    assert code == 0, stderr
    found: dict[str, Any] = json.loads(stdout)["measured"]
    assert len(found["steps"]) == 3
    assert found["evaluation"] > 0
    assert found["low"] <= found["expected"] <= found["high"]
    assert found["peak_memory_bytes"] > 50 << 20
    code, stdout, _ = cli(*planned, "--measure", "--price", "3")
    assert code == 0
    assert "95 % t interval of 3 steps" in stdout
    assert "cost: $" in stdout


def test_a_plan_without_its_model_s_files_goes_by_published_shapes(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "nothing"))
    code, stdout, stderr = cli("plan", "phi3-lora-alpaca", "--hardware", "4090", "--json")
    assert code == 0, stderr
    assert "planned by its published shapes" in stderr
    assert "planned by what is known of yahma/alpaca-cleaned" in stderr
    assert json.loads(stdout)["estimates"][0]["fits"]


def test_an_unknown_model_or_data_that_cannot_be_had_is_an_error(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code, _, stderr = cli("plan", "quickstart", "--set", "model.base=no-one/nothing")
    assert code in (1, 2)
    assert "no-one/nothing" in stderr
