import json
import subprocess
import sys

import pytest

from palate import catalog


@pytest.mark.parametrize("entry", catalog.ENTRIES, ids=lambda entry: f"{entry.kind}:{entry.name}")
def test_every_line_resolves(entry):
    assert callable(entry.load())
    assert entry.summary
    assert not entry.summary.endswith(".")


def test_names_are_unique_within_their_kind():
    names = [(entry.kind, entry.name) for entry in catalog.ENTRIES]
    assert len(names) == len(set(names))


def test_the_names_that_users_were_promised():
    assert {"Popular", "Fresh", "Tag", "UserCF", "ItemCF", "Swing", "IALS", "Content", "DSSM", "DeepFM", "MLP", "MMR"} <= {
        e.name for e in catalog.ENTRIES
    }


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(LookupError, match="did you mean 'ItemCF'"):
        catalog.find("ItemCf")
    with pytest.raises(LookupError, match="no rank 'ItemCF'"):
        catalog.find("ItemCF", "rank")


@pytest.mark.parametrize(
    ("code", "banned"),
    [
        ("import palate", ("torch", "polars", "numpy", "fastapi")),
        ("import palate.catalog", ("torch", "polars", "numpy", "fastapi")),
        ("import palate.schema", ("torch",)),
        ("import palate.candidates", ("torch",)),
        ("import palate.tables.events, palate.tables.splits, palate.tables.sources.movielens, palate.tables.sources.synthetic", ("torch",)),
        ("import palate.state.embedded, palate.state.past, palate.state.catalogue", ("torch",)),
        ("import palate.features.pipeline", ("torch",)),
    ],
)
def test_light_things_load_light(code, banned):
    program = f"{code}; import sys, json; print(json.dumps([name for name in {banned!r} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
