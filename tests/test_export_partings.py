"""Where greedy answers part: at a near tie, or because the models differ; by every engine."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pacos.export.observe import Answer, Likely, Observed
from pacos.export.origin import open_origin
from pacos.export.partings import partings
from pacos.export.receipts import compare, line
from pacos.export.subjects import saved
from tests.exporting import save_base, save_random_adapter, with_adapter
from tests.test_export_layers import rows_for

STOP = 9


def observed(answer: Answer, tops: list[Likely]) -> Observed:
    return Observed([], [torch.tensor([1])], np.zeros((0, 2)), [answer], [tops])


def test_a_gap_within_the_noise_is_a_near_tie_and_a_stop_is_a_token() -> None:
    same: Likely = ((5, -0.1), (6, -3.0))
    before = observed(((5,), STOP), [same, ((STOP, -1.0), (7, -1.125), (8, -2.0))])
    after = observed(((5, 7), None), [same, ((7, -1.0), (STOP, -1.25), (8, -2.0))])
    (found,) = partings(before, after)
    assert (found.answer, found.token, found.gap, found.near_tie) == (0, 1, 0.125, True)
    assert found.noise == pytest.approx(np.std([0.25, -0.125, 0.0], ddof=1))
    receipt = json.loads(json.dumps(compare("a", "f32", before, after).to_tree()))
    assert receipt["num_same"] == 0
    assert "answer 1 parts at token 2, a near tie: 0.12 nats between the two there, noise 0.19" in line(receipt)


def test_a_gap_beyond_the_noise_is_no_tie_and_what_all_share_is_no_noise() -> None:
    before = observed(((5,), None), [((5, -0.1), (6, -3.0), (7, -4.0))])
    after = observed(((4,), None), [((4, 9.0), (5, 8.9), (6, 6.0), (7, 5.0))])
    (found,) = partings(before, after)
    assert found.gap == pytest.approx(3.9)
    assert found.noise == pytest.approx(0.0, abs=1e-9)
    assert not found.near_tie


def test_answers_that_are_the_same_do_not_part() -> None:
    one = observed(((5,), STOP), [((5, 0.0), (6, -1.0)), ((STOP, 0.0), (5, -1.0))])
    assert partings(one, one) == ()


def test_whole_and_by_layers_part_at_the_same_token(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "llama")
    bare, origin = open_origin(str(base)), with_adapter(base, save_random_adapter(base, tmp_path / "adapter"))
    rows = rows_for(origin, tmp_path)
    whole = partings(saved(bare, by_layers=False).observe(rows), saved(origin, by_layers=False).observe(rows))
    first = saved(bare, by_layers=True).observe(rows)
    found = partings(first, saved(origin, by_layers=True).observe(rows, like=first))
    assert len(found) > 1
    for ours, theirs in zip(found, [each for each in whole if each.token < 8], strict=True):
        assert (ours.answer, ours.token, ours.near_tie) == (theirs.answer, theirs.token, theirs.near_tie)
        assert (ours.gap, ours.noise) == pytest.approx((theirs.gap, theirs.noise), abs=1e-4)
