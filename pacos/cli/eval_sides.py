"""The two models of an evaluation, and how they are asked: sampling and stops are the same for both."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

from pacos.cli.session import OpenRun, load_base
from pacos.recipes import EvalOptions

SAMPLED = ("max_new_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed")
"""Options of an evaluation that say how answers are drawn; `Sampling` has them by the same names."""


def sampling_of(options: EvalOptions) -> Any:
    """How answers are drawn."""
    from pacos.inference import Sampling

    return Sampling(**{name: getattr(options, name) for name in SAMPLED})


def said_of(sampling: Any, options: EvalOptions) -> dict[str, Any]:
    """What the ledger keeps of it."""
    told = {name: value for name, value in asdict(sampling).items() if name in SAMPLED}
    return {**told, "stop": list(options.stop)} if options.stop else told


def cut_at(stop: Sequence[str], renderer: Any) -> Any:
    """The renderer, and where there are stops, one whose answers end before them."""
    from pacos.inference.stops import CutRenderer, StopTexts

    return CutRenderer(renderer, StopTexts(renderer, stop)) if stop else renderer


def sides_of(opened: OpenRun, options: EvalOptions) -> tuple[Side, Side]:
    """Base and tuned."""
    return Side(opened, options, tuned=False), Side(opened, options, tuned=True)


class Side:
    """One side of the comparison: the same network with its adapter on or off, or the base loaded apart."""

    def __init__(self, opened: OpenRun, options: EvalOptions, *, tuned: bool):
        from pacos.inference import Engine, StopTexts
        from pacos.models import Network

        self.off = opened.adapter is not None and not tuned
        self.opened = opened
        network = opened.network
        if opened.adapter is None and not tuned:
            network = Network(load_base(opened.record).model)
        self.engine = Engine(network, opened.renderer.stop_ids, slots=options.batch_size)
        self.stops = StopTexts(opened.renderer, options.stop) if options.stop else None

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Any, **hooks: Any) -> Any:
        return self._run(self.engine.generate, prompts, sampling, stops=self.stops, **hooks)

    def score(self, rows: Sequence[Any]) -> Any:
        return self._run(self.engine.score, rows)

    def _run(self, work: Any, *arguments: Any, **hooks: Any) -> Any:
        with self.opened.base() if self.off else nullcontext():
            return work(*arguments, **hooks)
