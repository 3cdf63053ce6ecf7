"""Ids and loss mask of small tokenizers of both kinds, against exact values and a character-level oracle."""

from __future__ import annotations

from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prompts_tokenizers import (
    GEMMA_JINJA,
    MISTRAL_JINJA,
    chatml_tokenizer,
    llama_tokenizer,
    phi3_tokenizer,
    sentencepiece_tokenizer,
    with_tokens,
)

from pacos.data.records import Example, Message
from pacos.errors import DataError, UsageError
from pacos.prompts import PROBES, Renderer, StreamDecoder
from pacos.prompts.templates import TEMPLATES

CHATML = Renderer(chatml_tokenizer(), "chat")
PHI3 = Renderer(phi3_tokenizer(), "phi3")
ALPACA = Renderer(llama_tokenizer(), "alpaca")
PLAIN = Renderer(chatml_tokenizer(), "plain")
LLAMA2 = Renderer(llama_tokenizer(), "chat")
ALL = {"chatml": CHATML, "phi3": PHI3, "alpaca": ALPACA, "plain": PLAIN, "llama2": LLAMA2}
each = pytest.mark.parametrize("renderer", ALL.values(), ids=ALL)

TALK = (Message("user", "Hi"), Message("assistant", "Hello there"))
texts = st.text(st.sampled_from("ab 12.\n\t<|>/é你🙂👩\u200d[]{}_"), min_size=1, max_size=24)


def parts(renderer: Renderer, row) -> tuple[str, str]:
    """What carries no loss and what does, as people read it."""
    off = [id for id, loss in zip(row.ids, row.loss_mask, strict=True) if not loss]
    on = [id for id, loss in zip(row.ids, row.loss_mask, strict=True) if loss]
    return renderer.show(off), renderer.show(on)


def test_alpaca_says_stanfords_words_and_loss_is_on_answer_and_stop():
    row = ALPACA.render_example(Example("Sort these.", "pear, apple", "apple, pear"))
    prompt, answer = parts(ALPACA, row)
    assert prompt == (
        "<s> Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nSort these.\n\n### Input:\npear, apple\n\n### Response:\n"
    )
    assert answer == "apple, pear</s>"
    assert row.ids[0] == ALPACA.tokenizer.bos_token_id
    assert row.ids[-1] == ALPACA.stop_ids[0] == ALPACA.tokenizer.eos_token_id


def test_alpaca_without_input_and_with_a_second_turn():
    row = ALPACA.render_example(Example("And now?", output="Bye", history=TALK))
    assert ALPACA.show(row.ids) == (
        "<s> Below is an instruction that describes a task. Write a response that appropriately completes the request."
        "\n\n### Instruction:\nHi\n\n### Response:\nHello there</s>"
        "\n\n### Instruction:\nAnd now?\n\n### Response:\nBye</s>"
    )
    assert parts(ALPACA, row)[1] == "Hello there</s>Bye</s>"


def test_phi3_swallows_the_line_end_behind_its_tokens_and_stops_on_end():
    row = PHI3.render_example(Example("Hi", output=" Yo", system="Be brief", history=TALK))
    text = "<|system|>Be brief<|end|><|user|>Hi<|end|><|assistant|>Hello there<|end|><|user|>Hi<|end|><|assistant|>"
    assert PHI3.show(row.ids) == f"{text} Yo<|end|>"
    names = [PHI3.codec.token_text(id) for id in PHI3.stop_ids]
    assert names == ["<|end|>", "</s>", "<|endoftext|>"]
    assert parts(PHI3, row)[1] == "Hello there<|end|> Yo<|end|>"


def test_plain_has_no_bos_where_the_family_has_none():
    row = PLAIN.render_example(Example("Hi", "there", "Yo"))
    assert PLAIN.show(row.ids) == "Instruction:\nHi\n\nInput:\nthere\n\nResponse:\nYo<|im_end|>"


@pytest.mark.parametrize("template", ["alpaca", "plain"])
@pytest.mark.parametrize("make", [llama_tokenizer, phi3_tokenizer, chatml_tokenizer])
def test_bos_stands_once_where_the_family_has_it_and_never_elsewhere(make, template):
    tokenizer = make()
    ids = Renderer(tokenizer, template).render_example(PROBES["second turn"]).ids
    assert ids.count(tokenizer.bos_token_id) == (1 if make is llama_tokenizer else 0)


@each
@pytest.mark.parametrize("name", PROBES)
def test_prompt_ids_begin_the_row_and_the_rest_is_answer_and_stop(renderer, name):
    row, prompt = renderer.render_example(PROBES[name]), renderer.render_prompt(PROBES[name])
    assert row.ids[: len(prompt)] == prompt
    assert not row.loss_mask[len(prompt) - 1]
    assert all(row.loss_mask[len(prompt) :])
    assert row.ids[-1] == renderer.stop_ids[0]
    answer = PROBES[name].output
    expected = answer.strip() if "assistant" in renderer.template.trims else answer
    assert renderer.decode(row.ids[len(prompt) :]) == expected


@each
@settings(max_examples=60, deadline=None)
@given(system=st.just("") | texts, first=texts, said=texts, user=texts, answer=texts)
def test_mask_equals_a_character_level_oracle(renderer, system, first, said, user, answer):
    history = (Message("user", first), Message("assistant", said))
    row = renderer.render_example(Example(user, output=answer, system=system, history=history))
    if "assistant" in renderer.template.trims:
        said, answer = said.strip(), answer.strip()
    before, after = renderer.template.around_answer
    loss = [f"{before}{text}{after}{renderer.template.stop}" for text in (said, answer)]
    runs = groupby(zip(row.ids, row.loss_mask, strict=True), key=lambda pair: pair[1])
    shown = [(carries, renderer.show([id for id, _ in run])) for carries, run in runs]
    assert [text for carries, text in shown if carries] == loss
    assert [carries for carries, _ in shown] == [False, True, False, True]
    assert shown[2][1].count(user.strip()) >= 1


@settings(max_examples=80, deadline=None)
@given(user=texts, answer=texts)
def test_byte_by_byte_the_row_is_the_template_with_the_texts_in_it(user, answer):
    row = CHATML.render_example(Example(user, output=answer))
    expected = [(b, False) for b in f"<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n".encode()]
    expected += [(b, True) for b in f"{answer}<|im_end|>".encode()]
    controls = {control.id: control.text.encode() for control in CHATML.codec.controls.values()}
    tokens = [controls.get(id) or CHATML.codec.token_bytes(id) for id in row.ids]
    assert [(b, loss) for token, loss in zip(tokens, row.loss_mask, strict=True) for b in token] == expected


@each
def test_no_typed_control_token_becomes_one(renderer):
    controls = {control.id for control in renderer.codec.controls.values()}
    plain = Example("a", "b", "c", "d", TALK)
    bare = [id for id in renderer.render_example(plain).ids if id in controls]
    for text in renderer.codec.controls:
        typed = Example(f"a{text}", f"{text} b", f"{text}c", f"d\n{text}", (Message("user", text), TALK[1]))
        assert [id for id in renderer.render_example(typed).ids if id in controls] == bare, text


def test_added_tokens_that_are_not_special_are_text_too_when_typed():
    tokenizer = chatml_tokenizer()
    tokenizer.add_tokens(["<tool_call>"])
    renderer = Renderer(tokenizer, "chat")
    id = tokenizer.convert_tokens_to_ids("<tool_call>")
    assert tokenizer("<tool_call>")["input_ids"] == [id]
    row = renderer.render_example(Example("Say <tool_call>", output="<tool_call>"))
    assert id not in row.ids
    assert renderer.decode(row.ids[len(renderer.render_prompt(Example("Say <tool_call>"))) :]) == "<tool_call>"


def test_white_space_added_tokens_of_the_vocabulary_stay_text():
    tokenizer, plain = (sentencepiece_tokenizer("first", MISTRAL_JINJA) for _ in range(2))
    space = plain.convert_tokens_to_ids("\u2581")
    tokenizer.add_tokens(["\u2581"])
    renderer = Renderer(tokenizer, "chat")
    assert "\u2581" not in renderer.codec.controls
    ids = renderer.render_prompt(Example("x  y"))
    assert space in ids
    assert renderer.show(ids) == "<s>[INST] x  y [/INST]"


@each
def test_many_at_once_are_as_one_by_one(renderer):
    rows = [*PROBES.values(), *PROBES.values()]
    assert renderer.render_examples(rows, 60) == [renderer.render_examples([row], 60)[0] for row in rows]
    assert renderer.render_prompts(rows) == [renderer.render_prompt(row) for row in rows]


@each
def test_chat_gives_the_prompt_of_the_same_conversation(renderer):
    for name in ("one word", "second turn", "system and second turn", "control tokens typed"):
        example = PROBES[name]
        assert renderer.render_chat(example.messages[:-1]) == renderer.render_prompt(example)


def test_default_system_message_is_used_where_there_is_none():
    renderer = Renderer(phi3_tokenizer(), "phi3", system="Be brief")
    assert renderer.show(renderer.render_chat([Message("user", "Hi")])) == (
        "<|system|>Be brief<|end|><|user|>Hi<|end|><|assistant|>"
    )
    own = renderer.render_prompt(Example("Hi", system="Be long"))
    assert renderer.show(own) == "<|system|>Be long<|end|><|user|>Hi<|end|><|assistant|>"


def test_system_message_opens_the_first_turn_where_the_template_has_no_place_for_it():
    ids = ALPACA.render_prompt(Example("Sort", "b, a", system="Be brief", history=TALK))
    assert "### Instruction:\nBe brief\n\nHi\n\n### Response:\n" in ALPACA.show(ids)
    assert ALPACA.show(ids).endswith("### Instruction:\nSort\n\n### Input:\nb, a\n\n### Response:\n")


def test_over_length_rows_are_cut_from_the_answers_end_and_keep_the_stop():
    example = Example("Hi", output="Eat well, sleep enough and move every day. " * 4)
    whole, room = CHATML.render_example(example), len(CHATML.render_prompt(example))
    for max_length in range(room + 2, len(whole.ids)):
        row = CHATML.render_example(example, max_length)
        assert row.ids == (*whole.ids[: max_length - 1], CHATML.stop_ids[0])
        assert row.loss_mask == (*whole.loss_mask[: max_length - 1], True)
        assert row.cut == len(whole.ids) - max_length
    assert CHATML.render_example(example, len(whole.ids)) == whole


def test_a_prompt_without_room_for_an_answer_is_refused_by_id_and_marked():
    example = Example("Hi", output="Eat well, sleep enough")
    room, whole = len(CHATML.render_prompt(example)), CHATML.render_example(example)
    for max_length in range(room + 2):
        marked = CHATML.render_examples([example], max_length)[0]
        assert not marked.fits
        assert (marked.ids, marked.cut) == (whole.ids, len(whole.ids) - max_length)
        with pytest.raises(DataError, match=f"row {example.id}: its prompt leaves no room .* in {max_length} tokens"):
            CHATML.render_example(example, max_length)


def test_a_later_turn_without_room_goes_as_a_whole():
    example = Example("And now?", output="Bye", history=TALK)
    whole, turn = CHATML.render_example(example), CHATML.render_example(Example("Hi", output="Hello there"))
    for max_length in range(len(turn.ids), len(CHATML.render_prompt(example)) + 2):
        row = CHATML.render_example(example, max_length)
        assert (row.ids, row.loss_mask) == (turn.ids, turn.loss_mask)
        assert row.cut == len(whole.ids) - len(turn.ids)


def test_an_empty_answer_trains_the_stop_alone():
    row = CHATML.render_example(Example("Hi"))
    assert row.loss_mask.count(True) == 1
    assert row.loss_mask[-1]


@pytest.mark.parametrize("roles", [["assistant"], ["user"], ["user", "user"], ["assistant", "user"]])
def test_history_that_does_not_alternate_is_refused_by_id(roles):
    example = Example("Hi", output="Yo", source="a.jsonl:3", history=tuple(Message(role, "x") for role in roles))
    expected = f"a.jsonl:3: row {example.id}: history must alternate user, assistant; it is {', '.join(roles)}"
    with pytest.raises(DataError) as caught:
        CHATML.render_example(example)
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("roles", "words"),
    [
        ([], "the last message must be the user's"),
        (["system"], "the last message must be the user's"),
        (["user", "assistant"], "the last message must be the user's"),
        (["user", "user"], "must alternate user, assistant; it is user"),
        (["user", "system", "user"], "must alternate user, assistant; it is user, system"),
    ],
)
def test_messages_out_of_order_are_refused(roles, words):
    with pytest.raises(UsageError, match=words):
        CHATML.render_chat([Message(role, "x") for role in roles])


@each
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_stream_of_any_tokens_says_what_decode_says_and_never_half_a_character(renderer, data):
    ids = data.draw(st.lists(st.integers(0, len(renderer.tokenizer) + 3), max_size=30))
    decoder = StreamDecoder(renderer)
    pieces = [decoder.push(id) for id in ids] + [decoder.flush()]
    assert "".join(pieces) == renderer.decode(ids)


@each
def test_a_stream_of_whole_text_has_no_replacement_character(renderer):
    text = "A family 👩‍👩‍👧, 你好, é.\n  Indented"
    row = renderer.render_example(Example("Hi", output=text))
    decoder = StreamDecoder(renderer)
    pieces = [decoder.push(id) for id in row.ids[len(renderer.render_prompt(Example("Hi"))) :]]
    assert "\ufffd" not in "".join(pieces)
    assert "".join(pieces) + decoder.flush() == text


def test_template_and_tokenizer_that_do_not_go_together_are_refused():
    with pytest.raises(UsageError, match=r"has no token <\|user\|>, <\|end\|>, <\|assistant\|>.*'phi3' needs"):
        Renderer(chatml_tokenizer(), "phi3")
    with pytest.raises(UsageError, match="template 'alpacca': not known; did you mean 'alpaca'"):
        Renderer(chatml_tokenizer(), "alpacca")
    bare = chatml_tokenizer()
    bare.eos_token = None
    with pytest.raises(UsageError, match="has no end-of-sequence token, so template 'alpaca' could not stop"):
        Renderer(bare, "alpaca")
    with pytest.raises(UsageError, match="a fast tokenizer"):
        Renderer(object(), "alpaca")


def test_trimming_templates_trim_what_trains_too():
    tokenizer = with_tokens(chatml_tokenizer(GEMMA_JINJA), "<start_of_turn>", "<end_of_turn>")
    renderer = Renderer(tokenizer, "chat")
    row = renderer.render_example(Example(" Hi\n", output="\n Yo "))
    assert parts(renderer, row)[1] == "Yo<end_of_turn>"
    assert "user\nHi<end_of_turn>" in renderer.show(row.ids)


def test_templates_are_the_three_and_their_forms_name_known_slots():
    assert sorted(TEMPLATES) == ["alpaca", "phi3", "plain"]
    assert all("{user}" in t.first or "{instruction}" in t.first for t in TEMPLATES.values())
