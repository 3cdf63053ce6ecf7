"""Log-probabilities are transformers' own, of what is written and of what is read, whatever is drawn and however batched."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
import torch

from pacos.errors import UsageError
from pacos.inference import Engine, Sampling
from pacos.models import LoraSpec, Network, attach, save_adapter, unwrap
from pacos.models.switch import Switch
from tests.families import tiny_of
from tests.tiny import FAMILIES, tiny_model

SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "temperature": {"temperature": 0.7},
    "hot": {"temperature": 1.9, "seed": 4},
    "top-p": {"temperature": 1.0, "top_p": 0.6},
    "top-k": {"temperature": 1.0, "top_k": 5},
    "min-p": {"temperature": 1.0, "min_p": 0.2},
    "penalty": {"repetition_penalty": 1.6},
    "all": {"temperature": 1.3, "top_p": 0.9, "top_k": 20, "min_p": 0.02, "repetition_penalty": 1.2, "seed": 9},
}


def random_rows(lengths: tuple[int, ...] = (1, 20, 7, 33)) -> list[list[int]]:
    drawn = random.Random(0)
    beginning = [drawn.randrange(3, 320) for _ in range(9)]
    rows = [[drawn.randrange(3, 320) for _ in range(n)] for n in lengths]
    return [*rows, beginning + rows[1], beginning + rows[2], beginning]


@torch.no_grad()
def by_transformers(model: Any, ids: list[int]) -> torch.Tensor:
    """Log-probabilities (T, V) behind each of the ids, by the model's own forward in fp32."""
    return model(torch.tensor([ids])).logits[0].float().log_softmax(-1)


def check_likely(found: Any, expected: torch.Tensor, count: int) -> None:
    """(id, logprob) pairs of one place against its log-probabilities (V,)."""
    values = expected.topk(count).values.tolist()
    assert [logprob for _, logprob in found] == pytest.approx(values, abs=2e-4)
    assert [float(expected[id]) for id, _ in found] == pytest.approx(values, abs=2e-4)
    assert len({id for id, _ in found}) == count


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("family", ["llama", "gemma2", "phi3"])
def test_what_is_written_has_the_log_probabilities_of_transformers(family: str, setting: str) -> None:
    model = tiny_model(family, tie_word_embeddings=False)
    prompts = random_rows()
    sampling = Sampling(max_new_tokens=6, top_logprobs=5, **SETTINGS[setting])
    engine = Engine(Network(copy.deepcopy(model)), tuple(range(0, 320, 40)), slots=3)
    for prompt, made in zip(prompts, engine.generate(prompts, sampling), strict=True):
        written = [*made.ids, *([] if made.stop_id is None else [made.stop_id])]
        expected = by_transformers(model, prompt + written)[len(prompt) - 1 : -1]
        assert len(made.logprobs) == len(made.top_logprobs) == len(written) == len(expected)
        assert list(made.logprobs) == pytest.approx(
            [float(e[id]) for e, id in zip(expected, written, strict=True)], abs=2e-4
        )
        for likely, row in zip(made.top_logprobs, expected, strict=True):
            check_likely(likely, row, 5)


def test_greedy_log_probabilities_are_those_that_generate_returns() -> None:
    model = tiny_model("llama", tie_word_embeddings=False)
    for penalty in (1.0, 1.7):
        for prompt in random_rows():
            out = model.generate(
                torch.tensor([prompt]), max_new_tokens=8, do_sample=False, repetition_penalty=penalty, eos_token_id=None,
                pad_token_id=0, output_logits=True, return_dict_in_generate=True,
            )  # fmt: skip
            scores = model.compute_transition_scores(out.sequences, out.logits, normalize_logits=True)[0]
            sampling = Sampling(max_new_tokens=8, repetition_penalty=penalty)
            made = Engine(Network(copy.deepcopy(model)), ()).generate([prompt], sampling)[0]
            assert list(made.ids) == out.sequences[0, len(prompt) :].tolist()
            assert list(made.logprobs) == pytest.approx(scores.tolist(), abs=2e-4)


def test_each_request_is_told_as_many_as_it_asks_for() -> None:
    engine = Engine(Network(tiny_model("llama")), (), slots=4)
    each = [Sampling(max_new_tokens=3, top_logprobs=n) for n in (0, 1, 7, 0, 2, 0, 0)]
    made = engine.generate(random_rows(), each)
    assert [[len(likely) for likely in completion.top_logprobs] for completion in made] == [
        [], [1] * 3, [7] * 3, [], [2] * 3, [], [],
    ]  # fmt: skip
    assert [completion.ids for completion in made] == [
        completion.ids for completion in engine.generate(random_rows(), Sampling(max_new_tokens=3))
    ]
    assert made[1].top_logprobs[0] == ((made[1].ids[0], made[1].logprobs[0]),), (
        "the greedy token is the likeliest, exactly"
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_read_has_the_log_probabilities_of_transformers(family: str) -> None:
    model = tiny_model(family, tie_word_embeddings=False)
    rows = random_rows()
    for row, reading in zip(rows, Engine(Network(copy.deepcopy(model)), ()).read(rows, top=4), strict=True):
        expected = by_transformers(model, row)
        assert list(reading.logprobs) == pytest.approx(
            [float(expected[i, id]) for i, id in enumerate(row[1:])], abs=2e-4
        )
        assert len(reading.top) == len(row)
        for likely, place in zip(reading.top, expected, strict=True):
            check_likely(likely, place, 4)


def test_the_likeliest_token_s_log_probability_is_the_same_number_as_its_own() -> None:
    """lm-evaluation-harness tells by equality whether an answer is the greedy one."""
    for kind in (torch.float32, torch.bfloat16):
        engine = Engine(Network(tiny_model("llama").to(kind)), ())
        prompt = random_rows()[3]
        ids = [*prompt, *engine.generate([prompt], Sampling(max_new_tokens=6))[0].ids]
        reading = engine.read([ids], top=1)[0]
        likeliest = [likely[0] for likely in reading.top]
        greedy = [
            (id, logprob) == best for id, logprob, best in zip(ids[1:], reading.logprobs, likeliest, strict=False)
        ]
        assert all(greedy[len(prompt) - 1 :])
        assert not all(greedy[: len(prompt) - 1])


def test_what_comes_next_is_what_is_written() -> None:
    engine = Engine(Network(tiny_model("llama")), ())
    rows = random_rows()
    written = [completion.ids[0] for completion in engine.generate(rows, Sampling(max_new_tokens=1))]
    assert [reading.top[-1][0][0] for reading in engine.read(rows, top=1)] == written


def test_reading_does_not_depend_on_the_rows_beside_it_and_tells_no_likeliest_unasked() -> None:
    engine = Engine(Network(tiny_model("gemma2")), ())
    rows = random_rows()
    together = engine.read(rows)
    for row, reading in zip(rows, together, strict=True):
        assert engine.read([row])[0].logprobs == pytest.approx(reading.logprobs, abs=1e-5)
        assert reading.top == ()
    assert [len(reading.logprobs) for reading in together] == [len(row) - 1 for row in rows]


def test_a_network_whose_rows_are_computed_alone_is_read_and_written_too() -> None:
    model = tiny_of("rwkv")
    rows = random_rows((5, 9, 4))[:2]
    engine = Engine(Network(copy.deepcopy(model)), ())
    for row, reading in zip(rows, engine.read(rows, top=3), strict=True):
        expected = by_transformers(model, row)
        assert list(reading.logprobs) == pytest.approx(
            [float(expected[i, id]) for i, id in enumerate(row[1:])], abs=2e-4
        )
        check_likely(reading.top[-1], expected[-1], 3)
    made = engine.generate(rows[:1], Sampling(max_new_tokens=2, top_logprobs=3))[0]
    check_likely(made.top_logprobs[0], by_transformers(model, rows[0])[-1], 3)


def test_text_is_read_with_the_adapter_that_is_named(tmp_path: Any) -> None:
    model = tiny_model("llama")
    adapter = attach(model, LoraSpec(2, 8.0, 0.0, ("q_proj",)), torch.Generator().manual_seed(0))
    for _, parameter in adapter.named_parameters():
        parameter.data.normal_(0, 0.5, generator=torch.Generator().manual_seed(1))
    save_adapter(adapter, tmp_path, base_name="llama")
    rows = random_rows()
    alone = Engine(Network(model), ()).read(rows)
    unwrap(model, adapter)
    engine = Engine(Network(model), (), switch=Switch(model, {"own": tmp_path}))
    for reading, expected in zip(engine.read(rows, adapter="own"), alone, strict=True):
        assert reading.logprobs == pytest.approx(expected.logprobs, abs=1e-5)
    assert engine.read(rows)[3].logprobs != pytest.approx(alone[3].logprobs, abs=1e-2)


def test_rows_that_cannot_be_read_are_named() -> None:
    engine = Engine(Network(tiny_model("llama")), (), max_length=16)
    with pytest.raises(UsageError) as error:
        engine.read([[3], [], [3] * 16, [3] * 17])
    assert str(error.value) == "row 1 has 0 tokens\nrow 3 has 17 tokens\nthis model takes 1 to 16; shorten the text"
