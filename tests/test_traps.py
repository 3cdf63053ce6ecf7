"""The bugs of this family of tools, and for each the tests that prove its absence here.

PROOFS is the table; it names tests of the whole suite, and a test below asserts that each of them is there. The traps that
no other file stands against are tried here, mostly through the command line.
"""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pacos.data import Example
from pacos.errors import DataError
from pacos.inference import Engine, Sampling
from pacos.models import Network
from pacos.models.packs import make_packs
from pacos.prompts import Rendered, Renderer, RowTable, table_of
from pacos.recipes import recipe_from_tree
from pacos.training.lengths import check_lengths
from tests.conftest import Cli, save_tiny
from tests.prompts_tokenizers import llama_tokenizer, phi3_tokenizer
from tests.rows import random_rows
from tests.tiny import tiny_model, tiny_tokenizer

PROOFS: dict[str, tuple[str, ...]] = {
    "gradient accumulation as a mean of means": (
        "test_gradients_are_equal_for_every_way_to_split_a_batch",
        "test_twenty_steps_follow_trl_on_the_same_rows_in_the_same_order",
    ),
    "packed rows see each other": (
        "test_packed_hidden_states_equal_those_of_each_row_alone",
        "test_changing_a_neighbour_changes_nothing",
        "test_the_first_token_of_a_row_is_no_target",
    ),
    "double or missing BOS": (
        "test_bos_stands_once_where_the_family_has_it_and_never_elsewhere",
        "test_ids_are_those_of_the_tokenizers_own_chat_template",
    ),
    "loss mask off by one": (
        "test_mask_equals_a_character_level_oracle",
        "test_loss_and_adapter_gradients_equal_transformers_with_peft",
    ),
    "pad == eos hides the EOS": (
        "test_with_pad_equal_to_eos_every_row_trains_its_stop_even_a_cut_one",
        "test_over_length_rows_are_cut_from_the_answers_end_and_keep_the_stop",
    ),
    "train and eval split apart": (
        "test_rows_that_were_trained_on_are_refused_exact_or_near",
        "test_a_split_is_made_once_and_reused",
        "test_sides_cover_all_rows_once_in_any_order_and_copies_stay_together",
    ),
    "perplexity averaged per batch or per row": (
        "test_perplexity_is_the_same_for_every_batch_size_and_padding_side",
        "test_perplexity_weighs_tokens_and_not_rows",
        "test_the_evaluation_loss_is_a_mean_over_tokens_whatever_the_packs",
    ),
    "BLEU over characters, ROUGE through the wrong tokenizer": (
        "test_summed_bleu_counts_give_sacrebleus_corpus_score",
        "test_the_bleu_signature_names_case_tokenizer_smoothing_and_version",
        "test_rouge_l_is_rouge_scores_on_random_pairs",
        "test_a_batch_is_written_as_its_prompts_one_by_one",
    ),
    "LoRA targets that match nothing": (
        "test_a_target_that_matches_nothing_is_an_error_that_lists_the_real_names",
        "test_a_target_that_one_layer_lacks_is_an_error",
        "test_parts_of_a_fused_projection_are_adapted_on_their_own_rows",
        "test_peft_loads_what_was_saved_and_gives_equal_logits",
    ),
    "trained in 4-bit, served from something else": (
        "test_what_was_trained_on_nf4_is_evaluated_and_talked_to_on_nf4",
        "test_another_base_than_the_trained_one_is_refused",
    ),
    "adapter saved empty or loaded as a no-op": (
        "test_an_adapter_that_is_saved_empty_or_altered_never_becomes_a_run",
        "test_an_adapter_whose_b_is_zero_is_refused",
        "test_loading_gives_the_live_model_s_logits_and_disabling_the_base_s",
    ),
    "tied embeddings lost on save": ("test_tied_embeddings_are_trained_saved_and_loaded",),
    "a row with every label masked": (
        "test_rows_without_a_token_that_carries_loss_are_refused_by_id",
        "test_a_blank_output_is_left_out_and_named_not_an_error",
        "test_rows_without_a_token_to_score_are_refused_by_name",
        "test_a_loss_that_is_no_number_stops_with_the_last_good_checkpoint_intact",
    ),
    "longest rows dropped, or never seen": (
        "test_an_epoch_covers_each_row_exactly_once",
        "test_every_row_is_in_exactly_one_bin_and_only_a_long_row_overflows",
    ),
    "truncation in silence": (
        "test_rows_that_are_cut_are_counted_and_named_and_above_a_share_refused",
        "test_over_length_rows_are_cut_from_the_answers_end_and_keep_the_stop",
    ),
    "decoding, then splitting": (
        "test_an_answer_that_holds_the_template_s_own_words_comes_back_whole",
        "test_the_stop_token_is_no_part_of_the_answer",
    ),
    "resume that restarts or jumps": (
        "test_killed_at_any_moment_it_resumes_to_the_same_weights",
        "test_resume_takes_the_newest_checkpoint_that_verifies",
        "test_resume_refuses_other_rows",
        "test_a_run_continues_with_its_own_options_or_not_at_all",
        "test_a_stopped_run_continues_by_the_very_command_that_it_prints",
    ),
    "OOM an hour in": (
        "test_too_little_memory_is_said_before_the_first_step_and_leaves_nothing",
        "test_the_rehearsal_takes_the_longest_rows_of_training_and_of_validation",
        "test_memory_that_runs_out_later_is_one_line_and_the_run_continues_to_the_same_weights",
        "test_the_rehearsal_leaves_weights_state_and_random_numbers_as_they_were",
    ),
    "settings accepted and ignored": (
        "test_every_option_is_read_by_the_code_that_it_steers",
        "test_a_mistake_names_its_place_and_the_way_out",
    ),
    "control tokens typed by a user": (
        "test_no_typed_control_token_becomes_one",
        "test_no_added_token_can_be_typed",
        "test_added_tokens_that_are_not_special_are_text_too_when_typed",
    ),
    "a stream that splits a character": (
        "test_a_stream_of_any_tokens_says_what_decode_says_and_never_half_a_character",
        "test_a_stream_of_whole_text_has_no_replacement_character",
        "test_the_pieces_of_an_answer_are_the_answer",
    ),
    "a demo that fakes its answer": ("test_chat_says_what_the_model_writes_and_the_base_something_else",),
    "PEFT loads a flipped bit, a NaN or a missing tensor": (
        "test_a_flipped_bit_in_the_artifact_is_an_error_and_no_worse_model",
        "test_a_foreign_adapter_is_checked_for_presence_shape_and_finiteness",
    ),
    "target_modules as a regular expression": ("test_a_pattern_as_target_is_refused_before_it_is_run",),
    "bitsandbytes asks the hub for kernels": (
        "test_importing_bitsandbytes_asks_the_hub_for_nothing",
        "test_evaluation_does_not_change_how_weights_lie_or_what_trains_after_it",
    ),
}


def test_every_trap_has_proofs_and_they_are_there() -> None:
    files = sorted(Path(__file__).parent.glob("test_*.py"))
    defined = {name for path in files for name in re.findall(r"^def (test_\w+)\(", path.read_text("utf-8"), re.M)}
    assert len(files) > 20
    assert {trap: [name for name in names if name not in defined] for trap, names in PROOFS.items()} == {
        trap: [] for trap in PROOFS
    }
    assert all(PROOFS.values())


def test_with_pad_equal_to_eos_every_row_trains_its_stop_even_a_cut_one() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    renderer = Renderer(tokenizer, "chat")
    stop = tokenizer.eos_token_id
    assert tokenizer.pad_token_id == stop
    examples = [Example(f"Count to {n}.", output=" ".join(map(str, range(n)))) for n in (1, 9, 40, 80)]
    rows = [renderer.render_example(example, 100) for example in examples]
    assert [row.cut > 0 for row in rows] == [False, False, True, True]
    assert all(row.ids[-1] == stop and row.loss_mask[-1] for row in rows)
    targets = torch.cat([pack.targets for pack in make_packs(rows, 128)]).tolist()
    assert targets.count(stop) == len(rows)
    assert len(targets) == sum(sum(row.loss_mask) for row in rows)


def padded_perplexity(model: Any, rows: list[Rendered], size: int, side: str) -> float:
    """By transformers: padded batches of `size`, summed losses over summed tokens."""
    summed, count = 0.0, 0
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        longest = max(len(row.ids) for row in batch)
        for row_at, row in enumerate(batch):
            gap = longest - len(row.ids)
            before = gap if side == "left" else 0
            ids = torch.zeros(len(batch), longest, dtype=torch.long)
            seen = torch.zeros_like(ids)
            ids[row_at, before : before + len(row.ids)] = torch.tensor(row.ids)
            seen[row_at, before : before + len(row.ids)] = 1
            positions = (seen.cumsum(1) - 1).clamp(min=0)
            with torch.no_grad():
                logits = model(input_ids=ids, attention_mask=seen, position_ids=positions).logits[row_at].double()
            wanted = [at for at in range(1, len(row.ids)) if row.loss_mask[at]]
            lost = torch.log_softmax(logits, -1)[[before + at - 1 for at in wanted], [row.ids[at] for at in wanted]]
            summed, count = summed - float(lost.sum()), count + len(wanted)
    return math.exp(summed / count)


@pytest.mark.parametrize("size", [1, 2, 7])
@pytest.mark.parametrize("side", ["left", "right"])
def test_perplexity_is_the_same_for_every_batch_size_and_padding_side(size: int, side: str) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.padding_side = side
    renderer = Renderer(tokenizer, "chat")
    rows = [renderer.render_example(Example(f"Sort {'fig ' * n}", output="pear, " * (9 - n))) for n in range(9)]
    assert len({len(row.ids) for row in rows}) > 3
    theirs = padded_perplexity(tiny_model("llama"), rows, size, side)
    engine = Engine(Network(tiny_model("llama")), renderer.stop_ids)
    scores = [score for start in range(0, 9, size) for score in engine.score(rows[start : start + size])]
    ours = math.exp(sum(score.nll for score in scores) / sum(score.tokens for score in scores))
    assert ours == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("family", ["phi3", "llama"])
def test_what_was_trained_on_nf4_is_evaluated_and_talked_to_on_nf4(
    family: str, cli: Cli, tiny_run: list[str], tmp_path: Path
) -> None:
    from pacos.cli.session import load_base, open_run
    from pacos.models.quantize import quantized_linears

    base = save_tiny(tmp_path / "base", family)
    code, _, err = cli(*tiny_run, f"--set=model.base={base}", "--set=method=qlora")
    assert code == 0, err
    opened = open_run("quickstart")
    four_bit = {name.removesuffix(".base") for name in quantized_linears(opened.network.model)}
    assert four_bit == quantized_linears(load_base(opened.record).model).keys()
    assert len(four_bit) == {"phi3": 2 * 4, "llama": 2 * 7}[family]
    assert {type(module.base).__name__ for module in opened.adapter.modules.values()} == {"Linear4bit"}
    receipt = opened.record.receipts[0]
    assert (receipt.step, receipt.top1_agreement) == ("live -> saved", 1.0)
    assert receipt.max_logit_difference < 1e-4


@pytest.mark.parametrize(
    ("factor", "code", "words"),
    [
        (0.0, 3, "every lora_B is zero, so the adapter changes nothing; it was saved before any training"),
        (1.5, 5, "the saved weights give other logits than the live model: largest difference "),
    ],
)
def test_an_adapter_that_is_saved_empty_or_altered_never_becomes_a_run(
    factor: float, code: int, words: str, cli: Cli, tiny_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pacos.models import adapters

    right = adapters.adapter_tensors

    def wrong(adapter: Any) -> dict[str, torch.Tensor]:
        return {name: t * factor if "lora_B" in name else t for name, t in right(adapter).items()}

    monkeypatch.setattr(adapters, "adapter_tensors", wrong)
    found, out, err = cli(*tiny_run, "--set=train.learning_rate=0.05")
    assert (found, out) == (code, "")
    assert words in err.splitlines()[-1]
    assert not Path("runs/quickstart").exists()


@pytest.mark.parametrize(("family", "own"), [("llama", {"tie_word_embeddings": True}), ("qwen2", {}), ("gemma2", {})])
def test_tied_embeddings_are_trained_saved_and_loaded(
    family: str, own: dict[str, Any], cli: Cli, tiny_run: list[str], tmp_path: Path
) -> None:
    """SmolLM2's, Qwen2.5's and Gemma 2's shapes: the head is the embedding, before and after."""
    from transformers import AutoModelForCausalLM

    from pacos.cli.session import open_run

    base = save_tiny(tmp_path / "base", family, **own)
    (tmp_path / "full.yaml").write_text("method: full\n", encoding="utf-8")
    kept = [argument for argument in tiny_run[2:] if not argument.startswith("--set=lora.")]
    code, _, err = cli("train", "full.yaml", *kept, f"--set=model.base={base}", "--set=model.dtype=fp32")
    assert code == 0, err
    folder = tmp_path / "runs" / "full"
    before, after = load_file(base / "model.safetensors"), load_file(folder / "model.safetensors")
    assert before.keys() == after.keys()
    assert "lm_head.weight" not in after
    assert not torch.equal(before["model.embed_tokens.weight"], after["model.embed_tokens.weight"])
    network = open_run("full").network
    assert network.head.weight.data_ptr() == network.model.get_input_embeddings().weight.data_ptr()
    assert torch.equal(network.head.weight, after["model.embed_tokens.weight"])
    (row,) = random_rows(1)
    (pack,) = make_packs([row], 64)
    with torch.no_grad():
        theirs = AutoModelForCausalLM.from_pretrained(folder)(input_ids=torch.tensor([row.ids])).logits[0]
        torch.testing.assert_close(network.logits(pack.hidden(network)), theirs[pack.sources], rtol=1e-4, atol=1e-4)
    receipt = json.loads((folder / "pacos.json").read_text(encoding="utf-8"))["receipts"][0]
    assert receipt["max_logit_difference"] < 1e-4


def columns(rows: list[tuple[Example, Rendered]]) -> tuple[list[Example], RowTable]:
    return [example for example, _ in rows], table_of([row for _, row in rows])


def test_rows_without_a_token_that_carries_loss_are_refused_by_id() -> None:
    recipe = recipe_from_tree({"data": {"path": "rows.jsonl"}}, "test")
    good = (Example("a", output="b", source="rows.jsonl:1"), Rendered((3, 4, 5), (False, False, True)))
    mute = [(Example(f"a{n}", output="b", source=f"rows.jsonl:{n}"), Rendered((3, 4), (n == 2, False))) for n in (2, 3)]
    with pytest.raises(DataError) as caught:
        check_lengths(*columns([good, *mute]), recipe)
    assert str(caught.value).splitlines() == [
        "rows.jsonl: 2 rows have nothing to learn from; give them an answer, or leave them out",
        *(f"  {example.source} ({example.id}): no token of it carries loss" for example, _ in mute),
    ]
    assert check_lengths(*columns([good]), recipe) == []


def test_rows_that_are_cut_are_counted_and_named_and_above_a_share_refused(
    cli: Cli, tiny_run: list[str], tiny_data: Path, tmp_path: Path
) -> None:
    """One row in sixty-five is too long, and no side of the split may hide it."""
    long = {"instruction": "Count on.", "output": " ".join(map(str, range(90)))}
    lines = tiny_data.read_text(encoding="utf-8") + json.dumps(long) + "\n"
    (tmp_path / "rows.jsonl").write_text(lines, encoding="utf-8")
    renderer = Renderer(tiny_tokenizer(), "chat")
    example = Example(long["instruction"], output=long["output"])
    cut = len(renderer.render_example(example).ids) - 128
    alone = ["--set=data.path=rows.jsonl", "--set=data.test_share=0", "--set=data.validation_share=0"]
    code, out, err = cli(*tiny_run, *alone, "--dry-run")
    assert (code, out) == (3, "")
    assert err.splitlines()[-3:] == [
        f"pacos: 1 of 65 rows (1.5%) are longer than train.max_length=128; {cut} tokens are cut from the ends of their "
        "answers, the stop token kept.",
        "  More than data.max_cut_share=0.01 allows: raise train.max_length, "
        "or allow it with --set data.max_cut_share=0.02",
        f"  rows.jsonl:65 ({example.id}): {cut} tokens cut",
    ]
    code, _, err = cli(*tiny_run, *alone, "--set=data.max_cut_share=0.02", "--dry-run")
    assert code == 0
    assert f"1 of 65 rows (1.5%) are longer than train.max_length=128; {cut} tokens are cut" in err
    assert f"rows.jsonl:65 ({example.id}): {cut} tokens cut" in err


@pytest.mark.parametrize("template", ["alpaca", "plain", "phi3", "chat"])
def test_an_answer_that_holds_the_template_s_own_words_comes_back_whole(template: str) -> None:
    tokenizer = {"alpaca": llama_tokenizer, "phi3": phi3_tokenizer}.get(template, tiny_tokenizer)()
    renderer = Renderer(tokenizer, template)
    said = "Response:\n### Response:\nassistant\n<|assistant|>\nText: ### Instruction: none"
    example = Example("Repeat this.", output=said)
    row, prompt = renderer.render_example(example), renderer.render_prompt(example)
    assert renderer.decode(row.ids[len(prompt) : -1]) == said


def test_chat_says_what_the_model_writes_and_the_base_something_else(
    cli: Cli, tiny_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pacos.cli.session import open_run

    assert cli(*tiny_run, "--set=train.learning_rate=0.05")[0] == 0
    opened = open_run("quickstart")
    prompt = opened.renderer.render_prompt(Example("Say the colour of thing 3 in 21 words."))
    engine = Engine(opened.network, opened.renderer.stop_ids)

    def written() -> str:
        return opened.renderer.decode(engine.generate([prompt], Sampling(max_new_tokens=8))[0].ids)

    def chatted(*more: str) -> str:
        monkeypatch.setattr("sys.stdin", io.StringIO("Say the colour of thing 3 in 21 words.\n"))
        code, out, err = cli("chat", "quickstart", "--max-new-tokens", 8, *more)
        assert code == 0, err
        return out

    tuned = written()
    with opened.base():
        base = written()
    assert tuned != base
    assert (chatted(), chatted("--base")) == (f"{tuned}\n", f"{base}\n")
