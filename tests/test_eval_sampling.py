"""How an evaluation's answers are drawn: options of the recipe, changed for one evaluation with --set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pacos.errors import UsageError
from pacos.inference import Sampling, StopTexts
from pacos.inference.stops import CutRenderer
from pacos.prompts import Renderer
from pacos.recipes import eval_options, load_recipe, resolved_tree
from tests.conftest import Cli
from tests.tiny import tiny_tokenizer

DRAWN = {
    "temperature": 1.3,
    "top_p": 0.9,
    "top_k": 40,
    "min_p": 0.01,
    "repetition_penalty": 1.1,
    "seed": 3,
    "max_new_tokens": 9,
}


def evaluated(cli: Cli, *arguments: Any) -> dict[str, Any]:
    code, out, err = cli("eval", "quickstart", "--json", *arguments)
    assert code == 0, err
    return dict(json.loads(out))


def texts(evaluation: dict[str, Any]) -> list[str]:
    return [row[side]["text"] for row in evaluation["rows"] for side in ("base", "tuned")]


def test_an_evaluation_draws_as_it_is_told_and_keeps_how(cli: Cli, tiny_run: list[str]) -> None:
    assert cli(*tiny_run)[0] == 0
    code, _, err = cli("eval", "quickstart", "--set=eval.temprature=1")
    assert (code, err) == (2, "pacos: quickstart: unknown key 'eval.temprature'; did you mean 'temperature'?\n")
    greedy = evaluated(cli)
    assert greedy["record"]["sampling"] == {
        "max_new_tokens": 6, "temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0,
        "seed": 42,
    }  # fmt: skip
    drawn = [f"--set=eval.{name}={value}" for name, value in DRAWN.items()]
    first, second = evaluated(cli, *drawn), evaluated(cli, *drawn)
    assert first["record"]["sampling"] == DRAWN
    assert texts(first) == texts(second)
    # the seed chooses the rows too, so it is the same here
    hot = evaluated(cli, "--set=eval.temperature=1.5")
    assert [row["id"] for row in hot["rows"]] == [row["id"] for row in greedy["rows"]]
    assert texts(hot) != texts(greedy)
    stop = next(text for text in texts(greedy) if len(text) > 4)[2:4]
    cut = evaluated(cli, f"--set=eval.stop=['{stop}']")
    assert cut["record"]["sampling"]["stop"] == [stop]
    assert texts(cut) == [text.split(stop)[0] for text in texts(greedy)]
    # no token comes behind a text that ends an answer
    sides = [
        (row[side], whole[side])
        for row, whole in zip(cut["rows"], greedy["rows"], strict=True)
        for side in ("base", "tuned")
    ]
    ended = [now for now, whole in sides if stop in whole["text"]]
    assert ended
    assert all(now["finish_reason"] == "stop" and now["generated_tokens"] == now["tokens"] for now in ended)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("eval.temprature=1", "run: unknown key 'eval.temprature'; did you mean 'temperature'?"),
        (
            "eval.temperature=-1",
            "run: eval.temperature: -1 is not accepted: input should be greater than or equal to 0",
        ),
        ("eval.stop=['']", "run: eval.stop.0: '' is not accepted: string should have at least 1 character"),
        ("train.epochs=2", "--set train.epochs=2: an evaluation takes keys of eval, as in --set eval.temperature=0.7"),
        (
            "eval.top_p=0.9",
            "run: 'eval.top_p' has no effect at eval.temperature 0, which takes the likeliest token; "
            "take it out, or give a temperature",
        ),
    ],
)
def test_what_an_evaluation_does_not_take_is_named(override: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        eval_options({}, "run", [override])
    assert str(error.value) == message


def test_runs_that_know_fewer_options_are_evaluated_greedily() -> None:
    kept = {"limit": 5, "max_new_tokens": 6, "batch_size": 2, "seed": 1, "resamples": 500}
    options = eval_options(kept, "run")
    assert (options.limit, options.resamples, options.temperature, options.stop) == (5, 500, 0.0, ())


def test_the_names_of_the_options_are_those_of_the_engine() -> None:
    from pacos.cli.eval_sides import SAMPLED, sampling_of

    options = eval_options({}, "run", [f"eval.{name}={value}" for name, value in DRAWN.items()])
    assert sampling_of(options) == Sampling(**DRAWN)  # type: ignore[arg-type]
    assert set(SAMPLED) == set(DRAWN) == set(Sampling.__dataclass_fields__) - {"top_logprobs"}
    assert resolved_tree(load_recipe("quickstart"))["eval"]["temperature"] == 0


def test_a_renderer_that_cuts_is_otherwise_the_same(tmp_path: Path) -> None:
    plain = Renderer(tiny_tokenizer(), "chat")
    ids = plain.tokenizer("the list ### Response", add_special_tokens=False)["input_ids"]
    cutting = CutRenderer(plain, StopTexts(plain, ("st #", "zz")))
    assert (plain.decode(ids), cutting.decode(ids)) == ("the list ### Response", "the li")
    assert cutting.stop_ids == plain.stop_ids
