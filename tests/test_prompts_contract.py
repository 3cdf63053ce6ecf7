"""The contract: kept as JSON, read back, and every way in which it can be broken is named."""

from __future__ import annotations

import json

import pytest
from prompts_tokenizers import (
    GEMMA_JINJA,
    LLAMA2_JINJA,
    MISTRAL_JINJA,
    chatml_tokenizer,
    llama_tokenizer,
    phi3_tokenizer,
    sentencepiece_tokenizer,
    with_tokens,
)

from pacos.data.records import Message
from pacos.errors import GateError
from pacos.prompts import (
    PROBES,
    Renderer,
    chat_template_jinja,
    check_contract,
    make_contract,
    renderer_from_contract,
)

PAIRS = {
    "alpaca llama": (llama_tokenizer, "alpaca"),
    "alpaca chatml": (chatml_tokenizer, "alpaca"),
    "alpaca mistral": (lambda: sentencepiece_tokenizer("always", MISTRAL_JINJA), "alpaca"),
    "alpaca legacy": (lambda: sentencepiece_tokenizer("legacy", MISTRAL_JINJA), "alpaca"),
    "plain phi3": (phi3_tokenizer, "plain"),
    "phi3": (phi3_tokenizer, "phi3"),
    "phi3 legacy": (lambda: phi3_tokenizer("legacy"), "phi3"),
    "chat phi3": (phi3_tokenizer, "chat"),
    "chat chatml": (chatml_tokenizer, "chat"),
    "chat llama2": (lambda: sentencepiece_tokenizer("first", LLAMA2_JINJA), "chat"),
    "chat gemma": (lambda: with_tokens(chatml_tokenizer(GEMMA_JINJA), "<start_of_turn>", "<end_of_turn>"), "chat"),
}
pairs = pytest.mark.parametrize(("make", "template"), PAIRS.values(), ids=PAIRS)
ORDINARY = [n for n in PROBES if not any(w in n for w in ("typed", "edges", "input", "Chinese", "code"))]


def stored(renderer: Renderer) -> dict:
    return json.loads(json.dumps(make_contract(renderer)))


def test_a_contract_says_template_stop_bos_tokenizer_and_twenty_probes():
    renderer = Renderer(llama_tokenizer(), "alpaca", system="Be brief")
    contract = stored(renderer)
    assert sorted(contract) == ["bos", "probes", "stop", "system", "template", "tokenizer_sha256", "version"]
    assert contract["bos"] == {"id": 1, "token": "<s>"}
    assert contract["stop"] == [{"id": 2, "token": "</s>"}]
    assert contract["system"] == "Be brief"
    assert "### Instruction:\n{instruction}" in contract["template"]["first"]
    assert len(contract["probes"]) == 20
    probe = contract["probes"][0]
    assert renderer.decode(probe["ids"][slice(*probe["loss"][0])]) == probe["output"] == "Red, yellow and blue."
    assert probe["loss"] == [[len(probe["prompt_ids"]), len(probe["ids"])]]


@pairs
def test_the_renderer_of_a_contract_renders_as_the_one_that_made_it(make, template):
    renderer = Renderer(make(), template, system="Be brief")
    again = renderer_from_contract(stored(renderer), make())
    assert again.template == renderer.template
    assert again.stop_ids == renderer.stop_ids
    assert stored(again) == stored(renderer)


@pairs
def test_the_contract_holds_for_the_tokenizer_as_it_is_saved_and_loaded(make, template, tmp_path):
    from transformers import AutoTokenizer

    renderer, tokenizer = Renderer(make(), template), make()
    tokenizer.chat_template = chat_template_jinja(renderer)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert stored(renderer_from_contract(stored(renderer), loaded)) == stored(renderer)


def test_a_contract_needs_no_chat_template_in_the_tokenizer():
    renderer = Renderer(chatml_tokenizer(), "chat")
    bare = chatml_tokenizer()
    bare.chat_template = None
    assert renderer_from_contract(stored(renderer), bare).render_prompt(PROBES["emoji"]) == renderer.render_prompt(
        PROBES["emoji"]
    )


def test_another_template_is_named_with_the_first_token_that_differs():
    contract = stored(Renderer(chatml_tokenizer(), "plain"))
    with pytest.raises(GateError) as caught:
        check_contract(contract, Renderer(chatml_tokenizer(), "alpaca"))
    message = str(caught.value)
    assert message.startswith("template contract: probe 'instruction' differs at token 0: ")
    assert "'I' in training, " in message
    assert "'B' here: the template is another one" in message


def test_another_tokenizer_is_named_by_its_hash():
    contract = stored(Renderer(chatml_tokenizer(), "plain"))
    other = with_tokens(chatml_tokenizer(), "<|new|>")
    with pytest.raises(
        GateError, match=r"the tokenizer is another one \([0-9a-f]{12} in training, [0-9a-f]{12} here\)"
    ):
        renderer_from_contract(contract, other)


def test_text_cut_up_in_another_way_is_found_by_the_probes():
    contract = stored(Renderer(sentencepiece_tokenizer("first", MISTRAL_JINJA), "alpaca"))
    with pytest.raises(GateError, match=r"differs at token \d+: .* the vocabulary is the same, so the tokenizer cuts"):
        renderer_from_contract(contract, sentencepiece_tokenizer("never", MISTRAL_JINJA))


def test_a_changed_id_is_found_where_it_is():
    renderer = Renderer(chatml_tokenizer(), "chat")
    contract = stored(renderer)
    ids = contract["probes"][7]["ids"]
    was_id, was = ids[5], renderer.codec.token_text(ids[5])
    ids[5] = 0
    with pytest.raises(GateError, match=r"probe 'emoji' differs at token 5: 0 .* in training") as caught:
        check_contract(contract, renderer)
    assert f"0 '<|endoftext|>' in training, {was_id} {was!r} here" in str(caught.value)
    contract = stored(renderer)
    contract["probes"][3]["loss"] = contract["probes"][3]["loss"][1:]
    with pytest.raises(GateError, match="probe 'second turn': loss on"):
        check_contract(contract, renderer)


@pytest.mark.parametrize("key", ["template", "system", "stop", "bos", "probes", "tokenizer_sha256", "version"])
def test_a_damaged_contract_is_a_gate_and_no_traceback(key):
    renderer = Renderer(chatml_tokenizer(), "chat")
    whole = stored(renderer)
    damaged = [
        {k: v for k, v in whole.items() if k != key},
        {**whole, key: None},
        {**whole, key: [{"x": 1}]},
        {**whole, key: {}},
    ]
    for contract in damaged:
        with pytest.raises(GateError, match="template contract"):
            renderer_from_contract(contract, chatml_tokenizer())


@pairs
@pytest.mark.parametrize("system", ["", "Be brief"])
def test_the_saved_jinja_gives_the_contracts_ids(make, template, system):
    renderer = Renderer(make(), template, system)
    tokenizer = make()
    tokenizer.chat_template = chat_template_jinja(renderer)
    for name in ORDINARY:
        messages = [{"role": m.role, "content": m.content} for m in PROBES[name].messages[:-1]]
        if template == "chat" and messages[0]["role"] == "system" and not renderer.template.first_with_system:
            continue  # the model's own template refuses it; pacos folds it
        ids = tokenizer.apply_chat_template(messages, tokenize=True, add_generation_prompt=True, return_dict=False)
        assert list(renderer.render_prompt(PROBES[name])) == ids, name


def test_the_models_own_jinja_is_kept_where_it_says_the_same_and_dates_are_frozen_where_not():
    assert chat_template_jinja(Renderer(chatml_tokenizer(), "chat")) == chatml_tokenizer().chat_template
    dated = chatml_tokenizer("Today: {{ strftime_now('%d %b %Y') }}\n" + chatml_tokenizer().chat_template)
    renderer = Renderer(dated, "chat")
    jinja = chat_template_jinja(renderer)
    assert "strftime" not in jinja
    text = dated.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False, chat_template=jinja)
    assert text == renderer.show(renderer.render_chat([Message("user", "Hi")]))
