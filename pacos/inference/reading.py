"""What a network makes of text that is there: the log-probability of each token, and which would have been likelier.

    readings = engine.read([ids], top=5)
    readings[0].logprobs[i]      of ids[i + 1]: nothing predicts the first token
    readings[0].top[i]           the five likeliest behind ids[: i + 1], so the last are those that would come next

This is what `echo` and `logprobs` of an OpenAI-like server ask for. All of it is fp32, under the model before temperature
and cuts, as in `Completion`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pacos.inference.sampling import Likely, likeliest
from pacos.models.attention import Packed
from pacos.models.kernels.cross_entropy import CHUNK
from pacos.models.kernels.peaks import peaks
from pacos.models.network import Network
from pacos.models.packs import share


@dataclass(frozen=True)
class Reading:
    """Of n ids: `logprobs` (n - 1) in nats; `top` (n), empty where none were asked for."""

    logprobs: tuple[float, ...]
    top: tuple[Likely, ...]


def read_together(network: Network, rows: Sequence[Sequence[int]], top: int) -> list[Reading]:
    """One forward pass over several rows."""
    trie = share(rows)
    layout = Packed(trie.lengths, trie.parents)
    device = network.device
    hidden = network.hidden(torch.tensor([trie.ids], device=device), layout.positions()[None].to(device), layout)[0]
    places = [place for i in range(len(rows)) for place in trie.places(i)]
    followers = [id for row in rows for id in (*row[1:], row[0])]  # a last id has none: what is told of it is left out
    logprobs: list[float] = []
    tops: list[Likely] = []
    for some, found in _pieces(network, hidden, places, followers, top):
        logprobs += some
        tops += found
    readings, at = [], 0
    for row in rows:
        end = at + len(row)
        readings.append(Reading(tuple(logprobs[at : end - 1]), tuple(tops[at:end])))
        at = end
    return readings


def _pieces(
    network: Network, hidden: Tensor, places: Sequence[int], followers: Sequence[int], top: int
) -> Iterator[tuple[list[float], list[Likely]]]:
    """The head at `places` of hidden (T, C), a few at a time: the log-probability of each one's follower, and the likeliest."""
    for start in range(0, len(places), CHUNK):
        piece = slice(start, start + CHUNK)
        logits = network.logits(hidden[torch.tensor(places[piece], device=hidden.device)]).float()
        mass = peaks(logits)[1]
        wanted = torch.tensor(followers[piece], device=hidden.device)
        logprobs = logits.gather(1, wanted[:, None]).squeeze(1) - mass
        yield logprobs.tolist(), likeliest(logits, mass, top) if top else []
