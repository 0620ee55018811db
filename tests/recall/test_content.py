import math

import numpy as np
import pytest

from palate.recall.content.content import Content
from palate.recall.content.tag import Tag
from palate.recall.content.vectors import Block, Scale
from tests.recall.made import catalogue, interactions, lists, random_matrix, request

R = random_matrix()


def tag_scores(items, history, weights, popularity, top=3):
    counts = {}
    for item, weight in zip(history, weights, strict=True):
        for tag in items.column("genres")[item]:
            counts[tag] = counts.get(tag, 0) + weight
    best = sorted(counts, key=lambda tag: -counts[tag])[:top]
    shares = {tag: counts[tag] / sum(counts.values()) for tag in best}
    return np.array(
        [sum(shares.get(tag, 0) for tag in set(tags)) * math.log(2 + p) for tags, p in zip(items.column("genres"), popularity, strict=True)]
    )


def test_tag_scores():
    items = catalogue()
    model = Tag(items, tags=5, half_life_days=10).fit(interactions(R))
    found = model.retrieve(request([[1, 5, 8]], [[1]], ages=[[0, 10, 20]]), 30)
    expected = tag_scores(items, [1, 5, 8], [1, 0.5, 0.25], R.sum(0), 5)
    expected[1] = 0
    assert sorted(found.items) == np.flatnonzero(expected > 0).tolist()
    np.testing.assert_allclose(found.scores, expected[found.items], rtol=1e-5)


def test_tag_takes_the_top_tags_only():
    items = catalogue()
    items.update(0, {"genres": ["war"]})
    items.update(1, {"genres": ["war", "noir"]})
    model = Tag(items, tags=1).fit(interactions(R))
    found = model.retrieve(request([[0, 1]]), 30)
    assert sorted(found.items) == items.having("genres", "war").tolist()


def test_tag_is_live():
    items = catalogue()
    model = Tag(items, tags=1, per_tag=3).fit(interactions(R))
    items.update(0, {"genres": ["war"]})
    asked = request([[0]])
    before = lists(model.retrieve(asked, 30))[0]
    assert len(before) == 3  # the most popular three of the tag
    popularity = R.sum(0)
    war = items.having("genres", "war")
    assert before == sorted(war, key=lambda row: (-popularity[row], row))[:3]
    new = items.add("new", {"genres": ["war", "never seen before"]})
    assert lists(model.retrieve(asked, 30))[0] == [*before, new]
    items.withdraw(before[0])
    assert before[0] not in lists(model.retrieve(asked, 30))[0]
    items.update(new, {"genres": ["comedy"]})
    assert new not in lists(model.retrieve(asked, 30))[0]
    items.update(0, {"genres": ["never seen before"]})
    assert lists(model.retrieve(asked, 30)) == [[0]]


@pytest.mark.parametrize("cls", [Tag, Content])
def test_a_row_that_is_being_written_is_not_offered_yet(cls, monkeypatch):
    items = catalogue()
    items.update(24, {"genres": items.column("genres")[1]})
    model = cls(items).fit(interactions(R))
    asked = request([[1]])
    with monkeypatch.context() as writing:  # the inverted index has the row before the length does
        writing.setattr(type(items), "__len__", lambda self: 24)
        assert 24 not in model.retrieve(asked, 99).items
    items.add("next", {"genres": items.column("genres")[1]})
    items.update(24, {"year": 1970})
    assert {24, 25} <= set(model.retrieve(asked, 99).items.tolist())


def test_tag_min_value():
    items = catalogue()
    model = Tag(items, tags=9, min_value=4.0).fit(interactions(R))
    assert lists(model.retrieve(request([[1, 5]], values=[[5, 1]]), 9)) == lists(model.retrieve(request([[1]]), 9))


@pytest.mark.parametrize(("cls", "options"), [(Tag, {"attribute": "genre"}), (Content, {"attributes": ("genre",)}), (Content, {"text": ("titel",)})])
def test_unknown_attribute_names_the_nearest(cls, options):
    with pytest.raises(ValueError, match=r"did you mean '(genres|title)'"):
        cls(catalogue(), **options)


def test_block_is_tf_idf():
    block = Block.fitted(10, True, ["Red red sea", "red house", None, "blue sea"])
    assert list(block.idf) == ["red", "sea"]
    idf = 1 + math.log(5 / 3)
    columns, values = block.of("RED sea red, unknown")
    expected = np.array([(1 + math.log(2)) * idf, idf])
    assert columns == [10, 11]
    np.testing.assert_allclose(values, expected / np.linalg.norm(expected))
    assert block.of(None) == ([], [])


def test_scale_gives_near_numbers_near_vectors():
    scale = Scale.fitted(0, [*range(1900, 2001), None])

    def vector(value):
        made = np.zeros(scale.width)
        columns, values = scale.of(value)
        made[columns] = values
        return made

    for year in (1800, 1900, 1937, 1950.5, 2000, 2100):
        np.testing.assert_allclose(np.linalg.norm(vector(year)), 1)
    near, far = vector(1950) @ vector(1953), vector(1950) @ vector(1990)
    assert near > 0.8 > far
    assert not vector(None).any()
    assert Scale.fitted(0, [None, None]).of(3) == ([], [])
    assert Scale.fitted(0, [7, 7]).of(9) == ([0], [1.0])


def dense(model, items):
    read = model.vectors.reader(items)
    made = np.zeros((len(items), model.vectors.width))
    for row in range(len(items)):
        columns, values = read(row)
        made[row, columns] = values
    return made


def test_content_is_the_cosine_with_the_profile():
    items = catalogue()
    model = Content(items, ("genres", "year", "studio"), ("title",), weighted=True, half_life_days=10).fit(interactions(R))
    vectors = dense(model, items)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    found = model.retrieve(request([[1, 5, 8], []], [[1, 5], []], [[5, 3, np.nan], []], [[0, 10, 20], []]), 30)
    profile = np.array([5, 1.5, 0.25]) @ vectors[[1, 5, 8]]
    expected = vectors @ profile / np.linalg.norm(profile)
    expected[[1, 5]] = 0
    assert lists(found)[1] == []
    np.testing.assert_allclose(found.scores, expected[found.items], atol=1e-5)
    assert sorted(found.items) == np.flatnonzero(expected > 0).tolist()
    rows, cosines = model.similar(3, 4)
    near = vectors @ vectors[3]
    near[3] = -1
    np.testing.assert_allclose(cosines, np.sort(near)[::-1][:4], atol=1e-5)
    assert 3 not in rows


def test_content_live_changes_equal_a_new_start():
    random = np.random.default_rng(0)
    items = catalogue()
    model = Content(items, text=("title",)).fit(interactions(R))
    saved = model.arrays()
    asked = request([[1, 5, 8], [2]])
    model.retrieve(asked, 5)
    for step in range(60):
        change = {"genres": random.choice(["war", "noir", "new"], 2, replace=False).tolist(), "year": int(random.integers(1900, 2010))}
        if random.random() < 0.5:
            items.add(f"n{step}", change | {"title": "the red sea"})
        else:
            items.update(int(random.integers(25)), change | {"title": random.choice(["night", None])})
        if random.random() < 0.3:
            items.withdraw(int(random.integers(len(items))))
        if random.random() < 0.3:
            model.retrieve(asked, 5)
    fresh = Content(items, text=("title",)).from_arrays(saved)
    a, b = model.retrieve(asked, 99), fresh.retrieve(asked, 99)
    assert lists(a) == lists(b)
    np.testing.assert_allclose(a.scores, b.scores, atol=1e-6)
    assert not np.isin(a.items, np.flatnonzero(~items.available)).any()
    assert max(a.items) >= 25


def test_content_keeps_no_memory_of_what_an_item_was():
    items = catalogue()
    model = Content(items, ("genres", "year")).fit(interactions(R))
    model.retrieve(request([[1]]), 5)
    before = len(model._of_terms.table.columns)
    for step in range(300):
        items.update(0, {"genres": ["war"] if step % 2 else ["noir"], "year": 1950 + step % 40})
        model.retrieve(request([[1]]), 5)
    assert len(model._of_terms.table.columns) < 3 * before
    assert sum(len(model._of_terms.columns_of(term)) for term in range(model._of_terms.rows)) == len(dense(model, items).nonzero()[0])


def test_content_min_value():
    model = Content(catalogue(), min_value=4.0).fit(interactions(R))
    assert lists(model.retrieve(request([[1, 5]], values=[[5, 1]]), 9)) == lists(model.retrieve(request([[1]]), 9))


def test_content_finds_the_same_kind():
    items = catalogue()
    for row in range(25):
        items.update(row, {"genres": ["war"] if row % 2 else ["noir"]})
    model = Content(items, ("genres",)).fit(interactions(R))
    assert lists(model.retrieve(request([[1, 3]], [[1, 3]]), 25)) == [list(range(5, 25, 2))]
