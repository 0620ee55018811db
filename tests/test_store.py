import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest

from palate.store import Draft, Run, RunError, unfinished, versions


def publish(path, value=1.0):
    draft = Draft(path)
    draft.arrays("weights.safetensors", {"w": np.full((3, 2), value, np.float32), "rows": np.arange(4), "flag": np.array(True)})
    draft.json("facts.json", {"a": [1, 2], "text": "ü"})
    draft.text("recipe.toml", 'name = "x"\n')
    draft.frame("items.parquet", pl.DataFrame({"id": ["a", "b"], "genres": [["x"], []]}))
    return draft.publish(cut=5)


def test_what_is_published_is_what_is_read(tmp_path):
    run = publish(tmp_path / "run")
    assert run.manifest["cut"] == 5
    assert run.arrays("weights.safetensors")["w"].tolist() == [[1, 1]] * 3
    assert run.arrays("weights.safetensors")["flag"].shape == ()  # one value stays one value
    assert run.json("facts.json") == {"a": [1, 2], "text": "ü"}
    assert run.frame("items.parquet")["genres"].to_list() == [["x"], []]
    assert sorted(run.check()) == ["facts.json", "items.parquet", "recipe.toml", "weights.safetensors"]


def test_a_draft_is_invisible_until_published_and_the_former_version_stays(tmp_path):
    first = publish(tmp_path / "run", 1.0)
    draft = Draft(tmp_path / "run")
    draft.text("recipe.toml", "half")
    assert Run(tmp_path / "run").version == first.version
    draft.discard()
    second = publish(tmp_path / "run", 2.0)
    third = publish(tmp_path / "run", 3.0)
    assert Run(tmp_path / "run").version == third.version
    assert Run(tmp_path / "run", second.version).arrays("weights.safetensors")["w"][0, 0] == 2
    assert len([p for p in (tmp_path / "run").iterdir() if p.is_dir()]) <= 3


@pytest.mark.parametrize("moments", [[0.0] * 6, [5.5, 5.2, -3_600.0, 5.5, 5.1, 5.9]], ids=["one instant", "a clock that is set back"])
def test_versions_sort_in_the_order_of_their_publication(tmp_path, monkeypatch, moments):
    published = []
    for value, moment in enumerate(moments):
        monkeypatch.setattr(time, "time", lambda moment=moment: 1_800_000_000.0 + moment)
        published.append(publish(tmp_path / "run", float(value)).version)
        assert versions(tmp_path / "run") == published[-2:], "the current one and the one before it are kept"
    assert sorted(published) == published
    assert Run(tmp_path / "run").version == published[-1]


def test_versions_with_names_of_an_older_release_load_and_come_first(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1_800_000_000.0)
    run = publish(tmp_path / "run", 1.0)
    old = "20270115T080000-ffffffff"  # the same second
    run.folder.rename(tmp_path / "run" / old)
    (tmp_path / "run" / "current").write_text(old)
    assert len(Run(tmp_path / "run").check()) == 4
    new = publish(tmp_path / "run", 2.0).version
    assert versions(tmp_path / "run") == [old, new]
    assert new.startswith("20270115T080000.")


def test_the_same_contents_published_again_are_a_version_with_its_own_facts(tmp_path):
    for cut in (1, 2):
        draft = Draft(tmp_path / "run")
        draft.text("recipe.toml", "x")
        run = draft.publish(cut=cut)
    assert run.manifest["cut"] == 2


def killed(program):
    done = subprocess.run([sys.executable, "-c", f"import os, sys; from palate.store import *; {program}; os.kill(os.getpid(), 9)"], check=False)
    assert done.returncode == -signal.SIGKILL


def test_the_draft_of_a_process_that_was_killed_goes_and_a_live_one_stays(tmp_path):
    run = tmp_path / "run"
    killed(f"Draft({str(run)!r}).text('recipe.toml', 'half')")
    killed(f"Draft({str(run)!r}).text('recipe.toml', 'half'); os.mkdir({str(run / '.draft-older')!r})")  # an older release left no mark
    assert len(list(run.glob(".draft-*"))) == 2
    live = Draft(run)
    assert list(run.glob(".draft-*")) == [live.folder]
    live.text("recipe.toml", "slow")
    publish(run)
    Draft(run).discard()
    assert list(run.glob(".draft-*")) == [live.folder]
    assert live.publish().text("recipe.toml") == "slow"
    assert not list(run.glob("**/.held"))
    assert not list(run.glob(".draft-*"))


def test_a_training_belongs_to_one_process_and_what_was_killed_goes_on_or_goes(tmp_path):
    run = tmp_path / "run"
    killed(f"c = unfinished({str(run)!r}, 'one'); (c.__enter__() / 'weights').write_text('half')")
    killed(f"c = unfinished({str(run)!r}, 'two'); (c.__enter__() / 'weights').write_text('half')")
    with unfinished(run, "three") as third:
        with unfinished(run, "one") as first:
            assert (first / "weights").read_text() == "half"
            with pytest.raises(RunError, match=f"process {os.getpid()} is training"), unfinished(run, "one"):
                pass
            assert (first / "weights").exists()
        assert list(run.glob(".training-*")) == [third], "the second's process is gone, the third's lives"
        with pytest.raises(KeyError), unfinished(run, "four") as fourth:
            raise KeyError
        assert fourth.is_dir(), "a training that failed can go on"
    assert not list(run.glob(".training-*"))


def test_what_stands_beside_a_version_goes_with_it(tmp_path):
    run = tmp_path / "run"
    names = []
    for value in range(4):
        version = publish(run, value).version
        names.append({f"curves-{version}.jsonl", f"evaluation-{version}.json"})
        for name in names[-1]:
            (run / name).write_text("{}")
    (run / "evaluation-mine.json").write_text("{}")
    (run / "curves-20200101T000000-00000000.jsonl").write_text("{}")  # an older release left it
    publish(run, 9.0)
    assert {path.name for path in run.glob("*.json*")} == names[-1] | {"evaluation-mine.json"}


def test_every_flipped_byte_of_every_file_is_noticed(tmp_path):
    run = publish(tmp_path / "run")
    rng = np.random.default_rng(0)
    for name in run.manifest["files"]:
        path = run.folder / name
        good = path.read_bytes()
        for place in rng.integers(0, len(good), 20):
            bad = bytearray(good)
            bad[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(bytes(bad))
            with pytest.raises(RunError, match="differs from what was published"):
                run.read(name)
        path.write_bytes(good[:-1])
        with pytest.raises(RunError, match="differs"):
            run.read(name)
        path.write_bytes(good)
        run.read(name)


def test_missing_files_links_and_swapped_files_are_refused(tmp_path):
    run = publish(tmp_path / "run")
    outside = tmp_path / "outside"
    target = run.folder / "facts.json"
    outside.write_bytes(target.read_bytes())
    target.unlink()
    with pytest.raises(RunError, match=r"facts\.json: cannot be read"):
        run.json("facts.json")
    target.symlink_to(outside)
    with pytest.raises(RunError, match="link"):
        run.json("facts.json")
    target.unlink()
    os.link(outside, target)
    with pytest.raises(RunError, match="link"):
        run.json("facts.json")
    target.unlink()
    target.write_bytes((run.folder / "recipe.toml").read_bytes())
    with pytest.raises(RunError, match="differs"):
        run.json("facts.json")


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a\x00b", "a" * 101, "..", "%2e%2e", "C:\\x", "a/../b", "/etc/passwd"])
def test_names_that_lead_out_of_the_run_are_refused(tmp_path, name):
    run = publish(tmp_path / "run")
    with pytest.raises(RunError):
        run.read(name)
    with pytest.raises(RunError):
        Draft(tmp_path / "other").text(name, "x")
    with pytest.raises(RunError):
        Run(tmp_path / "run", name) if name else run.read(name)


def test_numbers_that_are_not_finite_are_neither_published_nor_loaded(tmp_path):
    draft = Draft(tmp_path / "run")
    with pytest.raises(RunError, match=r"'w' has values that are not finite"):
        draft.arrays("weights.safetensors", {"w": np.array([1, np.nan], np.float32)})


def test_a_pickle_in_the_place_of_weights_is_refused_and_never_run(tmp_path):
    run = publish(tmp_path / "run")
    canary = tmp_path / "canary"
    evil = b"cposix\nsystem\n(S'touch " + str(canary).encode() + b"'\ntR."
    (run.folder / "weights.safetensors").write_bytes(evil)
    manifest = json.loads((run.folder / "manifest.json").read_text())
    import hashlib

    manifest["files"]["weights.safetensors"] = {"sha256": hashlib.sha256(evil).hexdigest(), "bytes": len(evil)}
    (run.folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RunError, match="not a safetensors file"):
        Run(tmp_path / "run").arrays("weights.safetensors")
    assert not canary.exists()


def test_no_run_says_how_to_make_one(tmp_path):
    with pytest.raises(RunError, match="palate train"):
        Run(tmp_path / "none")
