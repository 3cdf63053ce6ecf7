"""The published tokenizers and chat templates: our ids are theirs, and no typed token is ever one of theirs."""

from __future__ import annotations

import functools

import pytest
from prompts_tokenizers import own_ids, real_tokenizer, smollm2_tokenizer

from pacos.data.records import Example, Message
from pacos.prompts import PROBES, Renderer, make_contract, renderer_from_contract

LLAMA_31, LLAMA_32 = "meta-llama-Llama-3.1-8B-Instruct", "meta-llama-Llama-3.2-3B-Instruct"
PHI_35, QWEN = "microsoft-Phi-3.5-mini-instruct", "Qwen-Qwen2.5-7B-Instruct"
NEMO = "mistralai-Mistral-Nemo-Instruct-2407"
PAIRS = [
    ("phi-3", ""),
    ("phi-3-mini", ""),
    ("phi-3-mini", PHI_35),
    ("llama3", ""),
    ("llama3", LLAMA_31),
    ("llama3", LLAMA_32),
    ("mistral-v1", ""),
    ("mistral-v1", NEMO),
    ("qwen2.5", ""),
    ("qwen2.5", QWEN),
    ("smollm2", ""),
    ("phi-3", "file"),
    ("phi-3-mini", "file"),
    ("mistral-v1", "file"),
]
FIRST_SIX = [("phi-3", ""), ("phi-3-mini", ""), ("llama3", ""), ("mistral-v1", ""), ("qwen2.5", ""), ("smollm2", "")]


@functools.cache
def renderer_of(name: str, jinja: str = "", template: str = "chat") -> Renderer:
    return Renderer(smollm2_tokenizer() if name == "smollm2" else real_tokenizer(name, jinja), template)


def differs_on_purpose(name: str, probe: str) -> bool:
    """Typed tokens; white space that Phi-3's newer tokens swallow; Mistral's answer that its tokenizer glues to "]"."""
    edges = name == "phi-3-mini" and "edges" in probe
    return "typed" in probe or edges or (name == "mistral-v1" and probe == "punctuation first")


@pytest.mark.parametrize(("name", "jinja"), PAIRS)
def test_ids_are_those_of_the_tokenizers_own_chat_template(name, jinja):
    renderer = renderer_of(name, jinja)
    compared = 0
    for probe, example in PROBES.items():
        folded = example.system and not renderer.template.first_with_system
        if folded or differs_on_purpose(name, probe):
            continue
        row, tokenizer = renderer.render_example(example), renderer.tokenizer
        assert list(renderer.render_prompt(example)) == own_ids(tokenizer, example.messages[:-1], ask=True), probe
        assert list(row.ids) == own_ids(tokenizer, example.messages, ask=False)[: len(row.ids)], probe
        assert row.ids.count(tokenizer.bos_token_id) == (example_turns(example) if name == "smollm2" else bos(name))
        compared += 1
    assert compared >= 15


def bos(name: str) -> int:
    return int(name in ("phi-3", "llama3", "mistral-v1"))


def example_turns(example: Example) -> int:
    """SmolLM2's tokenizer calls <|im_start|> its BOS; it begins each turn and the system message, and nothing else."""
    return len(example.messages) + (not example.system)


@pytest.mark.parametrize(("name", "jinja"), FIRST_SIX)
def test_no_added_token_can_be_typed(name, jinja):
    renderer = renderer_of(name, jinja)
    codec = renderer.codec
    controls = {control.id for control in codec.controls.values()}
    bare = [id for id in renderer.render_example(Example("a", output="b")).ids if id in controls]
    typed = [Example(f"a{text} {text}", output=f"{text}b {text}") for text in codec.controls]
    for row in renderer.render_examples(typed):
        assert [id for id in row.ids if id in controls] == bare
    assert len(typed) == {"llama3": 256, "qwen2.5": 22, "mistral-v1": 3, "smollm2": 17}.get(name, 14)


@pytest.mark.parametrize(("name", "jinja"), [*FIRST_SIX, *PAIRS[-3:]])
@pytest.mark.parametrize("template", ["chat", "alpaca"])
def test_answers_come_back_as_they_went_in(name, jinja, template):
    renderer = renderer_of(name, jinja, template)
    for probe, example in PROBES.items():
        row, start = renderer.render_example(example), len(renderer.render_prompt(example))
        trimmed = "assistant" in renderer.template.trims
        assert renderer.decode(row.ids[start:]) == (example.output.strip() if trimmed else example.output), probe


@pytest.mark.parametrize(
    ("name", "first", "stops"),
    [
        ("phi-3", "<s><|user|>\nHi<|end|>\n<|assistant|>\n", ["<|end|>", "<|endoftext|>"]),
        ("phi-3-mini", "<|user|>Hi<|end|><|assistant|>", ["<|end|>", "<|endoftext|>"]),
        ("mistral-v1", "<s> [INST] Hi [/INST]", ["</s>"]),
    ],
)
def test_prompt_and_stops_of_the_published_families(name, first, stops):
    renderer = renderer_of(name)
    assert renderer.show(renderer.render_chat([Message("user", "Hi")])) == first
    assert [renderer.codec.token_text(id) for id in renderer.stop_ids] == stops


@pytest.mark.parametrize("name", ["phi-3", "phi-3-mini"])
def test_phi3_by_hand_is_phi3_by_its_own_template(name):
    by_hand, own = renderer_of(name, "", "phi3"), renderer_of(name)
    for probe, example in PROBES.items():
        if not example.system:
            assert by_hand.render_example(example) == own.render_example(example), probe


@pytest.mark.parametrize("pipeline", ["", "file"])
def test_alpaca_on_llama2_is_what_its_tokenizer_makes_of_stanfords_text(pipeline):
    renderer = renderer_of("llama2", pipeline, "alpaca")
    prompt = (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nName a colour.\n\n### Response:\n"
    )
    assert list(renderer.render_prompt(Example("Name a colour."))) == renderer.tokenizer(prompt)["input_ids"]
    whole = renderer.tokenizer(prompt + "Blue.")["input_ids"]
    assert renderer.render_example(Example("Name a colour.", output="Blue.")).ids == (*whole, 2)


@pytest.mark.parametrize(("name", "template"), [("phi-3-mini", "phi3"), ("llama2", "alpaca"), ("qwen2.5", "chat")])
def test_contract_of_real_tokenizers_holds(name, template):
    renderer = renderer_of(name, "", template)
    assert renderer_from_contract(make_contract(renderer), renderer.tokenizer).stop_ids == renderer.stop_ids
