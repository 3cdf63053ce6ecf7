"""Which tokens may be drawn, and how: the same set as transformers' processors, one stream of chance a row."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from transformers.generation import logits_process as processors

from pacos.errors import UsageError
from pacos.inference import Engine, Sampling
from pacos.inference.sampling import Sampler, choose, draw, kept, penalize
from pacos.models import Network
from tests.tiny import tiny_model


def random_logits(rows: int, vocabulary: int, spread: float = 3.0, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * spread


def by_transformers(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Probabilities (N, V) after the processors, in the order in which transformers applies them."""
    ids = torch.zeros((len(logits), 1), dtype=torch.long)
    chain = processors.LogitsProcessorList([processors.TemperatureLogitsWarper(sampling.temperature)])
    if sampling.top_k:
        chain.append(processors.TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        chain.append(processors.TopPLogitsWarper(sampling.top_p))
    if sampling.min_p > 0:
        chain.append(processors.MinPLogitsWarper(sampling.min_p))
    return chain(ids, logits).softmax(-1)


def by_pacos(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    weights, ids = kept(logits, sampling)
    full = weights if ids is None else torch.zeros_like(logits).scatter(1, ids, weights)
    return full / full.sum(-1, keepdim=True)


@pytest.mark.parametrize("vocabulary", [50, 3000])
@pytest.mark.parametrize("spread", [0.1, 3.0])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"top_k": 1},
        {"top_k": 40},
        {"top_k": 9999},
        {"top_p": 0.05},
        {"top_p": 0.9},
        {"min_p": 0.1},
        {"top_k": 30, "top_p": 0.8},
        {"top_p": 0.95, "min_p": 0.02, "temperature": 0.7},
        {"top_k": 20, "top_p": 0.9, "min_p": 0.05, "temperature": 1.8},
    ],
)
def test_the_tokens_kept_and_their_probabilities_are_those_of_transformers(
    options: dict[str, float], spread: float, vocabulary: int
) -> None:
    sampling = Sampling(**{"temperature": 1.0, **options})  # type: ignore[arg-type]
    logits = random_logits(6, vocabulary, spread)
    expected, found = by_transformers(logits, sampling), by_pacos(logits, sampling)
    assert torch.equal(found > 0, expected > 0)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


def test_a_repetition_penalty_moves_seen_tokens_as_transformers_does() -> None:
    logits = random_logits(2, 40)
    prompts = [[3, 5, 5, 9], [1, 39]]
    samplers = [Sampler(Sampling(repetition_penalty=1.7), prompt) for prompt in prompts]
    found = penalize(logits, samplers)
    for row, prompt in enumerate(prompts):
        processor = processors.RepetitionPenaltyLogitsProcessor(1.7)
        expected = processor(torch.tensor([prompt]), logits[row : row + 1].clone())
        assert torch.equal(found[row : row + 1], expected)


def test_what_was_drawn_is_seen_by_the_penalty() -> None:
    sampler = Sampler(Sampling(repetition_penalty=100.0), [])
    logits = torch.tensor([[1.0, 9.0, 8.0, 7.0]])
    assert [choose(logits, [sampler])[0][0] for _ in range(4)] == [1, 2, 3, 0]


def test_draws_follow_the_probabilities() -> None:
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().repeat(4000, 1)
    uniforms = [(i + 0.5) / 4000 for i in range(4000)]
    counts = Counter(draw(logits, Sampling(temperature=1.0), uniforms).tolist())
    assert [counts[i] for i in range(4)] == [400, 800, 1200, 1600]


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
def test_a_token_that_is_cut_is_never_drawn(uniform: float) -> None:
    logits = torch.tensor([[-1.0, 5.0, 4.0, -1.0]])
    for sampling in (Sampling(temperature=1.0, min_p=0.1), Sampling(temperature=1.0, top_k=2)):
        assert draw(logits, sampling, [uniform]).item() in (1, 2)


def test_temperature_zero_takes_the_largest_whatever_the_cuts() -> None:
    logits = random_logits(5, 100)
    samplers = [Sampler(Sampling(temperature=0.0, top_p=0.3, top_k=4, seed=i), [i]) for i in range(5)]
    assert choose(logits, samplers)[0] == logits.argmax(-1).tolist()


def test_rows_of_different_options_are_each_drawn_by_their_own() -> None:
    logits = random_logits(4, 100)
    options = [Sampling(), Sampling(temperature=1.0), Sampling(temperature=1.0, top_k=1), Sampling(temperature=2.0)]
    together = choose(logits, [Sampler(o, [7]) for o in options])
    alone = [choose(logits[i : i + 1], [Sampler(o, [7])]) for i, o in enumerate(options)]
    assert together[0] == [tokens[0] for tokens, _, _ in alone]
    assert together[1] == pytest.approx([logprobs[0] for _, logprobs, _ in alone])


def test_one_seed_gives_one_answer_and_another_seed_another() -> None:
    engine = Engine(Network(tiny_model("llama")), ())
    ids = {seed: engine.generate([[5, 6, 7]], Sampling(20, temperature=1.0, seed=seed))[0].ids for seed in (1, 2)}
    assert engine.generate([[5, 6, 7]], Sampling(20, temperature=1.0, seed=1))[0].ids == ids[1]
    assert ids[1] != ids[2]


def test_equal_prompts_of_one_call_get_different_answers_and_the_first_is_the_one_alone() -> None:
    engine = Engine(Network(tiny_model("llama")), ())
    sampling = Sampling(20, temperature=1.0)
    answers = [c.ids for c in engine.generate([[5, 6, 7]] * 4, sampling)]
    assert len(set(answers)) == 4
    assert answers[0] == engine.generate([[5, 6, 7]], sampling)[0].ids


def test_options_out_of_range_are_named_all_at_once() -> None:
    with pytest.raises(UsageError) as error:
        Sampling(
            max_new_tokens=0, temperature=-1.0, top_p=0.0, top_k=-2, min_p=2.0, repetition_penalty=0.0, top_logprobs=101
        )
    assert str(error.value) == (
        "max_new_tokens: 0 is not accepted; give 1 or more\n"
        "temperature: -1.0 is not accepted; give 0 (greedy) or more\n"
        "top_p: 0.0 is not accepted; give more than 0, at most 1\n"
        "top_k: -2 is not accepted; give 0 (all) or more\n"
        "min_p: 2.0 is not accepted; give 0 to 1\n"
        "repetition_penalty: 0.0 is not accepted; give more than 0; 1 is none\n"
        "top_logprobs: 101 is not accepted; give 0 to 100"
    )


@pytest.mark.parametrize("name", ["temperature", "top_p", "min_p", "repetition_penalty"])
def test_not_a_number_is_not_accepted(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name}: nan is not accepted"):
        Sampling(**{name: float("nan")})  # type: ignore[arg-type]
