"""A heap that keeps the best of a stream of scores, for the compiled parts of every index."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from palate.candidates import Floats, Ints


@njit(cache=True, nogil=True)
def best_of(scores: Floats, k: int, hidden: NDArray[np.int8] | None = None) -> tuple[Ints, Floats]:
    """Positions and values of the k largest finite scores, best first, ties by position; fewer where fewer are finite.

    Where ``hidden [N]`` is not 0 a position is left out.
    """
    heap = np.empty(k, np.float32)  # the smallest of the best so far on top
    place = np.empty(k, np.int64)
    size, least = 0, np.float32(-np.inf)
    for n in range(len(scores)):
        score = scores[n]
        if not score > least:  # of equal scores the earlier position is already in
            continue
        if hidden is not None and hidden[n]:
            continue
        size = put(heap, place, size, score, n)
        if size == k:
            least = heap[0]
    return emptied(heap, place, size)


@njit(cache=True, nogil=True)
def put(heap: Floats, place: Ints, size: int, score: np.float32, n: int) -> int:
    """Put (score, n) into a heap that holds ``size``, in the place of its smallest where it is full; how many it holds then."""
    if size < len(heap):
        rise(heap, place, size, score, n)
        return size + 1
    sink(heap, place, size, score, n)
    return size


@njit(cache=True, nogil=True)
def emptied(heap: Floats, place: Ints, size: int) -> tuple[Ints, Floats]:
    """Positions and values of a heap of ``size``, best first."""
    values = np.empty(size, np.float32)
    positions = np.empty(size, np.int64)
    for left in range(size - 1, -1, -1):
        values[left] = heap[0]
        positions[left] = place[0]
        if left:
            sink(heap, place, left, heap[left], place[left])
    return positions, values


@njit(cache=True, nogil=True)
def rise(heap: Floats, place: Ints, size: int, score: np.float32, n: int) -> None:
    """Put (score, n) into a heap that holds ``size``; of equal scores the later position is the smaller."""
    child = size
    while child > 0:
        parent = (child - 1) >> 1
        if heap[parent] < score or (heap[parent] == score and place[parent] > n):
            break
        heap[child] = heap[parent]
        place[child] = place[parent]
        child = parent
    heap[child] = score
    place[child] = n


@njit(cache=True, nogil=True)
def sink(heap: Floats, place: Ints, size: int, score: np.float32, n: int) -> None:
    """Put (score, n) in the place of the top and let it sink; of equal scores the later position is the smaller."""
    hole = 0
    while True:
        child = 2 * hole + 1
        if child >= size:
            break
        right = child + 1
        if right < size and (heap[right] < heap[child] or (heap[right] == heap[child] and place[right] > place[child])):
            child = right
        if score < heap[child] or (score == heap[child] and n > place[child]):
            break
        heap[hole] = heap[child]
        place[hole] = place[child]
        hole = child
    heap[hole] = score
    place[hole] = n
