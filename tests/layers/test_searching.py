import pytest
import torch

from palate.layers.searching import hard_search, largest


@pytest.mark.parametrize(("length", "k"), [(3, 5), (40, 5), (997, 3), (5000, 50)])
def test_the_largest_are_the_largest(length: int, k: int) -> None:
    scores = torch.randn(7, length)
    scores[0] = -torch.inf
    values, places = largest(scores, k)
    torch.testing.assert_close(values.sort(1).values, scores.topk(min(k, length), 1).values.sort(1).values)
    assert torch.equal(scores.gather(1, places), values)
    assert all(len(set(row)) == len(row) for row in places.tolist())


@pytest.mark.parametrize("length", [6, 400])
@pytest.mark.parametrize("users", [1, 8])
@pytest.mark.parametrize("tags", [0, 3])
def test_hard_search_by_hand(length: int, users: int, tags: int) -> None:
    random = torch.Generator().manual_seed(0)
    events = torch.randint(0, 6, (users, length), generator=random)
    candidates = torch.stack([torch.randperm(6, generator=random)[: max(tags, 1)] for _ in range(8)])
    candidates[3] = 1
    places, found = hard_search(events, candidates if tags else candidates[:, 0], 4)
    for row in range(8):
        alike = [at for at, event in enumerate(events[row % users].tolist()) if event > 1 and event in candidates[row].tolist()]
        assert sorted(places[row][found[row]].tolist()) == alike[-4:]
