"""Fitting loads no compiler that it does not use."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys, torch
from palate.rank.interaction.deepfm import DeepFM
from palate.training.trainer import Trainer
from tests.worlds import labelled, schema_of_everything
schema = schema_of_everything()
model = DeepFM(schema)
Trainer(epochs=1, batch_size=16).fit(model, labelled(schema, 32), lambda: 0.0, checkpoint=__import__("pathlib").Path(sys.argv[1]))
sys.exit("torch._dynamo" in sys.modules)
"""


def test_fitting_does_not_load_torchs_compiler(tmp_path) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path / "kept")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
