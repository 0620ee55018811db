"""A training that is killed goes on where it was, and what is published is the same to the bit."""

import subprocess
import sys
from pathlib import Path

import pytest

from palate.store import Run
from palate.workflow import train

RECIPE = Path(__file__).parents[1] / "recipes" / "synthetic.toml"
PROGRAM = "import sys; from palate.workflow import train; train(sys.argv[1], sys.argv[2], report=lambda line: print(line, flush=True))"


def killed(recipe: Path, out: Path, line: str) -> list[str]:
    """What a training said before it was killed at the first line that holds ``line`` ("": not killed)."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(recipe), str(out)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = []
    for one in process.stdout:
        said.append(one)
        if line and line in one:
            process.kill()
            break
    process.stdout.close()
    assert process.wait() == (-9 if line else 0)
    return said


@pytest.mark.parametrize(
    "places", [["more to validate"], pytest.param(["fold 1 of 3", "more to validate", "distilled from ranker"], marks=pytest.mark.faults)]
)
def test_killed_and_resumed_the_run_is_bit_identical(tmp_path, places):
    recipe, broken = tmp_path / "recipe.toml", tmp_path / "broken"
    recipe.write_text(RECIPE.read_text("utf-8").replace("events = 12000", "events = 4000"), "utf-8")
    train(recipe, tmp_path / "whole")
    told = [killed(recipe, broken, line) for line in places]
    assert list(broken.glob(".training-*/*two_tower.checkpoint"))
    assert not (broken / "current").exists()
    told.append(killed(recipe, broken, ""))
    for place, said in zip(places, told[1:], strict=True):
        assert place == "fold 1 of 3" or any("cut short" in line for line in said), place
    whole, resumed = (Run(tmp_path / name).manifest["files"] for name in ("whole", "broken"))
    assert {name: facts["sha256"] for name, facts in whole.items()} == {name: facts["sha256"] for name, facts in resumed.items()}
    assert not list(broken.glob(".training-*"))
