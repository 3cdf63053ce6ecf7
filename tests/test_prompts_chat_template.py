"""Chat templates read as data: what is found in families of every kind, and what is refused."""

from __future__ import annotations

import pytest
from prompts_tokenizers import (
    GEMMA_JINJA,
    LLAMA2_JINJA,
    MISTRAL_JINJA,
    PHI3_JINJA,
    chatml_tokenizer,
    own_ids,
    phi3_tokenizer,
    sentencepiece_tokenizer,
    with_tokens,
)

from pacos.data.records import Example, Message
from pacos.errors import UsageError
from pacos.prompts import PROBES, Renderer
from pacos.prompts.chat_template import family_bos

SCHEMES = ("first", "always", "legacy")
TALK = (Message("user", "Hi"), Message("assistant", "Hello there"))
PLAIN_PROBES = [name for name in PROBES if "typed" not in name and "edges" not in name and "punctuation" not in name]
CHATML_LOOP = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
ASK = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


def gemma():
    return with_tokens(chatml_tokenizer(GEMMA_JINJA), "<start_of_turn>", "<end_of_turn>")


def test_chatml_is_read_as_it_is_written():
    template = Renderer(chatml_tokenizer(), "chat").template
    assert template.first == "<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"
    assert template.first_with_system == "<|im_start|>system\n{system}<|im_end|>\n" + template.first
    assert template.later == "\n" + template.first
    assert (template.answer, template.stop, template.trims, template.bos) == ("{answer}", "<|im_end|>", (), "")


def test_default_system_message_of_a_template_is_kept_and_replaced_by_a_given_one():
    default = "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"
    renderer = Renderer(chatml_tokenizer(default + CHATML_LOOP + ASK), "chat")
    shown = renderer.show(renderer.render_chat([Message("user", "Hi")]))
    assert shown.startswith("<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi")
    given = renderer.show(renderer.render_prompt(Example("Hi", system="Be brief.")))
    assert given.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi")


def test_gemma_refuses_a_system_message_so_it_opens_the_first_turn_and_texts_are_trimmed():
    renderer = Renderer(gemma(), "chat")
    assert renderer.template.first_with_system == ""
    assert renderer.template.trims == ("user", "assistant")
    assert renderer.template.stop == "<end_of_turn>"
    shown = renderer.show(renderer.render_prompt(Example("And?\n", system="Be brief.", history=TALK)))
    assert shown == (
        "<|im_start|><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n"
        "<start_of_turn>model\nHello there<end_of_turn>\n<start_of_turn>user\nAnd?<end_of_turn>\n<start_of_turn>model\n"
    )


@pytest.mark.parametrize("scheme", SCHEMES)
def test_mistral_has_a_text_boundary_between_prompt_and_answer(scheme):
    tokenizer = sentencepiece_tokenizer(scheme, MISTRAL_JINJA)
    renderer = Renderer(tokenizer, "chat")
    assert renderer.template.first == "<s>[INST] {user} [/INST]"
    assert renderer.template.later == "[INST] {user} [/INST]"
    row = renderer.render_example(Example("And?", output="Bye", history=TALK))
    assert renderer.decode([id for id, on in zip(row.ids, row.loss_mask, strict=True) if on]) == "Hello thereBye"


def test_a_system_message_that_moves_to_the_last_turn_is_folded_into_the_first():
    moving = (
        "{% if messages[0]['role'] == 'system' %}{% set s = messages[0]['content'] %}{% set rest = messages[1:] %}"
        "{% else %}{% set rest = messages %}{% endif %}{{ bos_token }}{% for m in rest %}{% if m['role'] == 'user' %}"
        "{% if loop.last and s is defined %}[INST]{{ s + '\n\n' + m['content'] }}[/INST]"
        "{% else %}[INST]{{ m['content'] }}[/INST]{% endif %}{% else %}{{ m['content'] + eos_token }}{% endif %}"
        "{% endfor %}"
    )
    renderer = Renderer(sentencepiece_tokenizer("first", moving), "chat")
    assert renderer.template.first_with_system == ""
    shown = renderer.show(renderer.render_prompt(Example("And?", system="Be brief.", history=TALK)))
    assert shown == "<s>[INST]Be brief.\n\nHi[/INST]Hello there</s>[INST]And?[/INST]"


def test_a_dropped_system_message_is_folded_into_the_first_turn():
    jinja = "{% for m in messages %}{% if m['role'] != 'system' %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
    renderer = Renderer(chatml_tokenizer(jinja + "<|im_end|>\n{% endif %}{% endfor %}" + ASK), "chat")
    shown = renderer.show(renderer.render_prompt(Example("Hi", system="Be brief.")))
    assert shown == "<|im_start|>user\nBe brief.\n\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_llama2_has_text_of_its_own_around_an_answer_which_trains_and_is_taken_off():
    renderer = Renderer(sentencepiece_tokenizer("first", LLAMA2_JINJA), "chat")
    assert renderer.template.answer == " {answer} "
    assert renderer.template.first_with_system == "<s>[INST] <<SYS>>\n{system}\n<</SYS>>\n\n{user} [/INST]"
    row, prompt = renderer.render_example(Example("Hi", output="Yo")), renderer.render_prompt(Example("Hi"))
    assert renderer.show(row.ids[len(prompt) :]) == " Yo </s>"
    assert renderer.decode(row.ids[len(prompt) :]) == "Yo"


TOKENIZERS = {
    "chatml": chatml_tokenizer,
    "gemma": gemma,
    **{f"phi3 {s}": (lambda s=s: phi3_tokenizer(s)) for s in SCHEMES},
    **{f"mistral {s}": (lambda s=s: sentencepiece_tokenizer(s, MISTRAL_JINJA)) for s in SCHEMES},
    **{f"llama2 {s}": (lambda s=s: sentencepiece_tokenizer(s, LLAMA2_JINJA)) for s in SCHEMES},
}


@pytest.mark.parametrize("make", TOKENIZERS.values(), ids=TOKENIZERS)
def test_ids_are_those_of_the_tokenizers_own_chat_template(make):
    tokenizer = make()
    renderer = Renderer(tokenizer, "chat")
    for name in PLAIN_PROBES:
        messages = PROBES[name].messages
        if messages[0].role == "system" and not renderer.template.first_with_system:
            continue
        row = renderer.render_example(PROBES[name])
        assert list(renderer.render_chat(messages[:-1])) == own_ids(tokenizer, messages[:-1], ask=True), name
        assert list(row.ids) == own_ids(tokenizer, messages, ask=False)[: len(row.ids)], name


@pytest.mark.parametrize(
    ("jinja", "words"),
    [
        ("", "has no chat template; use template alpaca, phi3 or plain"),
        (CHATML_LOOP, "does not say where an answer begins"),
        (CHATML_LOOP.replace("<|im_end|>", "!") + ASK, "ends an answer with no control token"),
        ("{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}", "with no control token"),
        ("{{ raise_exception('only tools') }}", "does not render: only tools"),
        ("<|im_start|>{{ messages | length }}{{ messages[-1]['content'] }}<|im_end|>", "rewrites a prompt once"),
        ("{% for m in messages %}{{ m['content'] * 2 }}<|im_end|>{% endfor %}", "each text in one place"),
        (CHATML_LOOP.replace("m['content']", "m['content'] | upper") + ASK, "each text in one place"),
        (
            CHATML_LOOP.replace("m['content']", "m['content'] | replace('a', 'e')") + ASK,
            "each text in one place|content",
        ),
        (
            CHATML_LOOP.replace("m['content']", "m['content'].split('fig')[0]") + ASK,
            r"depends on the content \(probe 'in",
        ),
    ],
)
def test_a_template_that_data_cannot_say_is_refused_with_what_to_use(jinja, words):
    tokenizer = chatml_tokenizer()
    tokenizer.chat_template = jinja
    with pytest.raises(UsageError, match=words) as caught:
        Renderer(tokenizer, "chat")
    assert str(caught.value).endswith("use template alpaca, phi3 or plain")


def test_family_bos_is_what_the_tokenizer_adds_or_its_chat_template_says():
    assert family_bos(sentencepiece_tokenizer("first", MISTRAL_JINJA)) == "<s>"
    assert family_bos(sentencepiece_tokenizer("first", PHI3_JINJA)) == ""
    assert family_bos(sentencepiece_tokenizer("first", "", adds_bos=True)) == "<s>"
    # its BOS is <|im_start|>, which begins every text of the template, but as a turn's token
    assert family_bos(chatml_tokenizer()) == ""
