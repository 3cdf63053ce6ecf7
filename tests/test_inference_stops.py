"""Texts that end an answer, wherever in tokens they begin and end."""

from __future__ import annotations

import random

import pytest

from pacos.errors import UsageError
from pacos.inference import Engine, Sampling, StopTexts
from pacos.models import Network
from pacos.prompts import Renderer
from tests.tiny import tiny_model, tiny_tokenizer

SAMPLING = Sampling(max_new_tokens=40, temperature=1.0, seed=3)


def renderer() -> Renderer:
    return Renderer(tiny_tokenizer(), "alpaca")


def prompts() -> list[list[int]]:
    drawn = random.Random(0)
    return [[drawn.randrange(3, 320) for _ in range(n)] for n in (4, 9, 2, 15, 7, 6)]


def test_an_answer_ends_where_a_text_is_complete_and_not_before() -> None:
    engine, made = Engine(Network(tiny_model("llama")), ()), renderer()
    free = engine.generate(prompts(), SAMPLING)
    texts = ("e", "th", "é", "xq")
    stops = StopTexts(made, texts)
    found = engine.generate(prompts(), SAMPLING, stops=stops)
    assert {c.finish_reason for c in found} >= {"stop"}
    for whole, cut in zip(free, found, strict=True):
        assert whole.ids[: len(cut.ids)] == cut.ids
        text = b"".join(map(made.answer_bytes, cut.ids)).decode(errors="replace")
        before = b"".join(map(made.answer_bytes, cut.ids[:-1])).decode(errors="replace")
        assert not any(stop in before for stop in texts)
        assert (cut.stop_text is not None) == any(stop in text for stop in texts) == (cut.finish_reason == "stop")
        assert not any(stop in stops.cut(text) for stop in texts)


def test_a_text_across_tokens_is_found() -> None:
    made = renderer()
    ids = made.tokenizer("the list ### Response", add_special_tokens=False)["input_ids"]
    assert len(ids) > 3
    watch = StopTexts(made, ("st ###",)).watch()
    told = [watch(id) for id in ids]
    assert [text for text in told if text] == ["st ###"]
    assert told[0] is None
    assert StopTexts(made, ("st ###",)).cut("the list ### Response") == "the li"


def test_the_first_of_several_texts_ends_the_answer() -> None:
    stops = StopTexts(renderer(), ("list", "the"))
    assert stops.cut("in the list") == "in "
    assert stops.cut("no word") == "no word"


def test_an_empty_text_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^stop: a text is empty; give at least one character$"):
        StopTexts(renderer(), ("a", ""))


def test_a_stream_ends_at_a_text() -> None:
    engine = Engine(Network(tiny_model("llama")), ())
    stops = StopTexts(renderer(), ("e", "th"))
    for prompt in prompts():
        found = engine.generate([prompt], SAMPLING, stops=stops)[0].ids
        assert (*engine.stream(prompt, SAMPLING, stops=stops),) == found
