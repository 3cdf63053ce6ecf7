"""The engine writes what transformers writes and scores what a plain forward pass scores, however batched."""

from __future__ import annotations

import copy
import itertools
import random
from typing import Any

import pytest
import torch

from pacos.errors import UsageError
from pacos.inference import Completion, Engine, Sampling
from pacos.models import Network
from pacos.prompts import Rendered
from tests.rows import random_rows
from tests.tiny import FAMILIES, WINDOW, tiny_model

LENGTHS = (1, 20, 7, 33, 12, 3, 70)
GREEDY = Sampling(max_new_tokens=16)


def random_prompts(lengths: tuple[int, ...] = LENGTHS, seed: int = 0) -> list[list[int]]:
    drawn = random.Random(seed)
    return [[drawn.randrange(3, 320) for _ in range(n)] for n in lengths]


def engine_of(family: str = "llama", stop_ids: tuple[int, ...] = (), **options: Any) -> Engine:
    return Engine(Network(tiny_model(family, tie_word_embeddings=False)), stop_ids, **options)


def ids_of(completions: list[Completion]) -> list[tuple[int, ...]]:
    return [completion.ids for completion in completions]


def hugging_face(model: Any, prompt: list[int], tokens: int, **options: Any) -> list[int]:
    """What transformers writes behind one prompt, greedily."""
    out = model.generate(
        torch.tensor([prompt]), max_new_tokens=tokens, do_sample=False, eos_token_id=None, pad_token_id=0, **options
    )
    return out[0, len(prompt) :].tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_ids_equal_those_of_transformers_generate(family: str) -> None:
    model = tiny_model(family, tie_word_embeddings=False)
    engine = Engine(Network(copy.deepcopy(model)), (), slots=3)
    prompts = random_prompts()
    expected = [tuple(hugging_face(model, prompt, 16)) for prompt in prompts]
    assert ids_of(engine.generate(prompts, GREEDY)) == expected
    assert len({id for ids in expected for id in ids}) > 40


def test_greedy_ids_with_a_repetition_penalty_equal_those_of_transformers_generate() -> None:
    model = tiny_model("llama")
    engine = Engine(Network(copy.deepcopy(model)), ())
    sampling = Sampling(max_new_tokens=16, repetition_penalty=1.5)
    for prompt in random_prompts():
        expected = tuple(hugging_face(model, prompt, 16, repetition_penalty=1.5))
        assert engine.generate([prompt], sampling)[0].ids == expected


@pytest.mark.parametrize("family", ["mistral", "gemma2", "phi3"])
def test_the_sliding_window_changes_what_is_written(family: str) -> None:
    prompt = random_prompts((4 * WINDOW,))
    narrow = engine_of(family).generate(prompt, GREEDY)
    wide = Engine(Network(tiny_model(family, tie_word_embeddings=False, sliding_window=400)), ())
    assert ids_of(narrow) != ids_of(wide.generate(prompt, GREEDY))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("sampling", [GREEDY, Sampling(max_new_tokens=12, temperature=1.3, top_p=0.9, seed=5)])
def test_a_batch_is_written_as_its_prompts_one_by_one(family: str, sampling: Sampling) -> None:
    engine = engine_of(family, stop_ids=tuple(range(0, 320, 17)))
    prompts = random_prompts()
    alone = [engine.generate([prompt], sampling)[0].ids for prompt in prompts]
    assert len({len(ids) for ids in alone}) > 1, "answers of many lengths, so that rows end and move"
    for slots in (1, 2, 7):
        assert ids_of(Engine(engine.network, engine.stop_ids, slots=slots).generate(prompts, sampling)) == alone


def test_more_prompts_than_slots_come_back_in_their_order() -> None:
    engine = engine_of(slots=4)
    prompts = random_prompts(tuple(random.Random(1).randrange(1, 40) for _ in range(23)))
    each = [Sampling(max_new_tokens=1 + i % 6) for i in range(23)]
    done: list[int] = []
    completions = engine.generate(prompts, each, on_done=lambda i, _: done.append(i))
    assert [len(c.ids) for c in completions] == [1 + i % 6 for i in range(23)]
    assert completions[9].ids == engine.generate([prompts[9]], each[9])[0].ids
    assert sorted(done) == list(range(23))


def test_prompts_that_begin_alike_are_written_as_alone() -> None:
    engine = engine_of("gemma2")
    beginning = random_prompts((19,))[0]
    prompts = [beginning + tail for tail in random_prompts((1, 5, 9), seed=3)] + [beginning]
    assert ids_of(engine.generate(prompts, GREEDY)) == [engine.generate([p], GREEDY)[0].ids for p in prompts]


def test_a_stop_token_ends_an_answer_and_is_kept_apart_from_its_ids() -> None:
    free = engine_of().generate(random_prompts((9,)), GREEDY)[0]
    stop = free.ids[5]
    cut = engine_of(stop_ids=(stop,)).generate(random_prompts((9,)), GREEDY)[0]
    at = free.ids.index(stop)
    assert (cut.ids, cut.finish_reason, cut.stop_id) == (free.ids[:at], "stop", stop)
    assert (free.finish_reason, free.stop_id) == ("length", None)
    assert cut.logprobs == pytest.approx(free.logprobs[: at + 1])


def test_a_stop_token_as_the_first_token_gives_an_empty_answer() -> None:
    prompts = random_prompts((9, 30))
    first = engine_of().generate(prompts, Sampling(max_new_tokens=1))[0].ids[0]
    completion = engine_of(stop_ids=(first,)).generate(prompts, GREEDY)[0]
    assert (completion.ids, completion.finish_reason) == ((), "stop")


def test_one_new_token_is_one_token() -> None:
    completions = engine_of().generate(random_prompts(), Sampling(max_new_tokens=1))
    assert [(len(c.ids), c.finish_reason) for c in completions] == [(1, "length")] * len(LENGTHS)


def test_streamed_ids_are_the_generated_ids_without_the_stop() -> None:
    engine = engine_of(stop_ids=tuple(range(0, 320, 17)))
    for prompt in random_prompts():
        assert tuple(engine.stream(prompt, GREEDY)) == engine.generate([prompt], GREEDY)[0].ids


def test_a_stream_that_is_read_while_another_answer_is_written_is_not_disturbed() -> None:
    engine = engine_of()
    first, second = random_prompts((9, 30))
    expected = engine.generate([first], GREEDY)[0].ids
    stream = engine.stream(first, GREEDY)
    begun = [next(stream), next(stream)]
    engine.generate([second], GREEDY)
    assert (*begun, *stream) == expected


def test_tokens_are_told_as_they_are_written() -> None:
    told: dict[int, list[int]] = {}
    completions = engine_of(slots=3, stop_ids=(5, 70, 200)).generate(
        random_prompts(), GREEDY, on_token=lambda i, id: told.setdefault(i, []).append(id)
    )
    assert {i: tuple(ids) for i, ids in told.items()} == {i: c.ids for i, c in enumerate(completions) if c.ids}


def test_logprobs_are_those_of_the_model() -> None:
    model = tiny_model("gemma2", tie_word_embeddings=False)
    prompt = random_prompts((11,))[0]
    completion = Engine(Network(copy.deepcopy(model)), ()).generate([prompt], Sampling(4, temperature=0.7))[0]
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *completion.ids]])).logits[0, len(prompt) - 1 : -1]
    expected = logits.log_softmax(-1).gather(1, torch.tensor(completion.ids)[:, None])[:, 0]
    assert completion.logprobs == pytest.approx(expected.tolist(), rel=1e-4)


def test_the_seconds_of_all_rows_sum_to_no_more_than_the_time_that_passed() -> None:
    import time

    began = time.perf_counter()
    completions = engine_of(slots=3).generate(random_prompts(), GREEDY)
    assert 0 < sum(c.seconds + c.prompt_seconds for c in completions) <= time.perf_counter() - began


def test_reading_the_prompt_and_writing_the_tokens_behind_the_first_are_timed_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = itertools.count()  # each reading is a second after the last: a forward pass takes one
    monkeypatch.setattr("pacos.inference.batch.time.perf_counter", lambda: float(next(clock)))
    sampling = [Sampling(max_new_tokens=n) for n in (1, 3, 5)]
    completions = engine_of().generate(random_prompts((9, 5, 7)), sampling)
    assert [c.prompt_seconds for c in completions] == pytest.approx([1 / 3] * 3)
    assert [c.seconds for c in completions] == pytest.approx([0, 2 / 2, 2 / 2 + 2])


def test_an_answer_that_reaches_the_model_s_limit_ends_with_reason_length() -> None:
    engine = engine_of(max_length=16)
    completion = engine.generate(random_prompts((12,)), Sampling(max_new_tokens=50))[0]
    assert (len(completion.ids), completion.finish_reason) == (4, "length")


def test_prompts_without_room_for_an_answer_are_named_all_at_once() -> None:
    with pytest.raises(UsageError) as error:
        engine_of(max_length=16).generate([[], [3] * 15, [3] * 16, [3] * 40], GREEDY)
    assert str(error.value) == (
        "prompt 0 has 0 tokens\nprompt 2 has 16 tokens\nprompt 3 has 40 tokens\n"
        "this model takes at least 1 and fewer than 16; shorten the text"
    )


def test_the_cache_does_not_grow_over_many_prompts() -> None:
    engine = engine_of(slots=4)
    sizes = set()
    for i in range(8):
        engine.generate(random_prompts((5, 30, 12, 50, 2), seed=i), GREEDY)
        assert engine._cache is not None
        sizes.add(engine.cache_bytes)
    # 4 slots, 2 layers, keys and values, 2 heads of 16, in fp32; 50 + 15 positions fit two blocks of 64
    assert sizes == {4 * 2 * 2 * 2 * 16 * 4 * 128}


def test_an_answer_longer_than_the_room_at_first_is_written_on() -> None:
    model = tiny_model("qwen2", tie_word_embeddings=False)
    prompts = random_prompts((3, 60))
    engine = Engine(Network(copy.deepcopy(model)), ())
    completions = engine.generate(prompts, Sampling(max_new_tokens=150))
    assert ids_of(completions) == [tuple(hugging_face(model, prompt, 150)) for prompt in prompts]


def test_dropout_is_off_while_a_model_in_training_answers_and_on_again_after() -> None:
    network = Network(tiny_model("llama", attention_dropout=0.5))
    engine = Engine(network, ())
    expected = ids_of(engine.generate(random_prompts(), GREEDY))
    network.model.train()
    assert ids_of(engine.generate(random_prompts(), GREEDY)) == expected
    assert network.model.training


def test_bf16_answers_begin_as_fp32_answers() -> None:
    prompts = random_prompts()
    full = engine_of("phi3").generate(prompts, GREEDY)
    half = Engine(Network(tiny_model("phi3").bfloat16()), ()).generate(prompts, GREEDY)
    assert half[0].ids[0] == full[0].ids[0]
    assert sum(a.ids[0] == b.ids[0] for a, b in zip(half, full, strict=True)) >= 5


def plain_scores(model: Any, rows: list[Rendered]) -> list[float]:
    """Each row's summed cross entropy by a plain forward pass of its own."""
    scores = []
    for row in rows:
        with torch.no_grad():
            logits = model(torch.tensor([row.ids])).logits[0, :-1]
        nll = torch.nn.functional.cross_entropy(logits, torch.tensor(row.ids[1:]), reduction="none")
        scores.append(float(nll[torch.tensor(row.loss_mask[1:])].double().sum()))
    return scores


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_equal_a_plain_forward_pass(family: str) -> None:
    model = tiny_model(family)
    rows = random_rows(9)
    scores = Engine(Network(copy.deepcopy(model)), ()).score(rows)
    assert [score.nll for score in scores] == pytest.approx(plain_scores(model, rows), rel=1e-5)
    assert [score.tokens for score in scores] == [sum(row.loss_mask) for row in rows]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [1, 2, 7])
def test_scores_do_not_depend_on_how_rows_are_batched_or_ordered(family: str, size: int) -> None:
    engine = engine_of(family)
    rows = random_rows(14, longest=40)
    expected = [score.nll for score in engine.score(rows)]
    order = random.Random(2).sample(range(14), 14)
    found = {}
    for start in range(0, 14, size):
        part = order[start : start + size]
        found.update(zip(part, engine.score([rows[i] for i in part]), strict=True))
    assert [found[i].nll for i in range(14)] == pytest.approx(expected, rel=1e-6)


def test_the_first_token_of_a_row_is_no_target_and_a_shared_beginning_can_be() -> None:
    model = tiny_model("llama")
    ids = tuple(random_prompts((8,))[0])
    rows = [Rendered((*ids, last), (True,) * 9) for last in (7, 8, 9)]
    scores = Engine(Network(copy.deepcopy(model)), ()).score(rows)
    assert [score.tokens for score in scores] == [8, 8, 8]
    assert [score.nll for score in scores] == pytest.approx(plain_scores(model, rows), rel=1e-5)


def test_a_row_without_targets_scores_nothing() -> None:
    score = engine_of().score([Rendered((3, 4, 5), (False, False, False))])[0]
    assert (score.nll, score.tokens) == (0.0, 0)


def test_rows_longer_than_the_model_reads_are_named() -> None:
    rows = [Rendered((3,) * n, (True,) * n) for n in (10, 16, 17)]
    with pytest.raises(UsageError) as error:
        engine_of(max_length=16).score(rows)
    assert str(error.value) == "row 2 has 17 tokens\nthis model takes 1 to 16; shorten the text"
