"""Peers run by the scripts that come with their recorded figures, in environments of their own, in the same minutes as ours.

``home`` is an interpreter, an environment's folder, or where ``peers/setup_peers.sh`` made several (``home/venvs/NAME``): each peer is run by the
first that has it; what none has is told and left out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

Script = tuple[str, tuple[str, ...], dict[str, dict[str, str]]]  #: the module it needs, command, which of its models stand beside which of our lines
PEERS: dict[str, tuple[Script, ...]] = {
    "recall": (("recbole", ("run_recbole.py", "ItemKNN", "gen", "1"), {"ItemKNN": {"case": "itemcf-ml100k", "keep": "target"}}),),
    "factor": (
        ("lenskit", ("run_lenskit.py",), {"EASE": {"case": "ease", "model": "EASE"}}),
        ("cornac", ("run_cornac.py",), {"BPR": {"case": "bpr", "model": "BPR"}}),
        ("recbole", ("run_recbole.py", "SLIMElastic", "gen", "1"), {"SLIMElastic": {"case": "slim", "model": "SLIM"}}),
    ),
    "collaborative": (
        ("recbole", ("run_recbole.py", "LightGCN", "gen", "30", "learning_rate=0.005"), {"LightGCN": {"case": "ml100k", "model": "LightGCN"}}),
        ("recbole", ("run_recbole.py", "NeuMF", "gen", "10"), {"NeuMF": {"case": "ml100k", "model": "NeuMF"}}),
        ("cornac", ("run_cornac.py",), {"VAECF(MultVAE)": {"case": "ml100k", "model": "MultVAE"}}),
    ),
    "sequences": (("rectools", ("run_rectools.py", "SASRec", "30"), {"SASRec": {"case": "ml100k", "model": "SASRec"}}),),
}


def interpreters(home: Path) -> list[Path]:
    """Those that ``--peers`` can mean."""
    if home.is_file():
        return [home.absolute()]
    return [path.absolute() for path in (home / "bin/python", *sorted(home.glob("venvs/*/bin/python"))) if path.is_file()]


def interpreter_with(module: str, home: Path) -> str:
    """The first that can import ``module``; "" where there is none."""
    for path in interpreters(home):
        asked = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
        if subprocess.run([str(path), "-c", asked], capture_output=True, check=False).returncode == 0:
            return str(path)
    return ""


def results(home: Path, module: str, bench_dir: Path, words: tuple[str, ...]) -> list[dict[str, Any]]:
    """What one script says of the models it ran; nothing where no environment has it."""
    python = interpreter_with(module, home)
    if not python:
        print(f"bench: no peer by {words[0]}: no environment has {module}", file=sys.stderr, flush=True)
        return []
    with tempfile.TemporaryDirectory() as scratch:  # it writes its data and logs where it stands
        variables = {**os.environ, "NT": "1", "OMP_NUM_THREADS": "1", "BENCH_HOME": scratch, "USER": os.environ.get("USER", "bench")}
        Path(scratch, "rbdata").mkdir()
        command = [python, str(bench_dir.resolve() / "peers" / words[0]), *words[1:]]
        done = subprocess.run(command, capture_output=True, text=True, env=variables, cwd=scratch, check=False)
    found = [json.loads(text[7:]) for text in done.stdout.splitlines() if text.startswith("RESULT ")]
    if not found:
        print(f"bench: {' '.join(words)} gave no result: {done.stderr.strip()[-300:]}", file=sys.stderr, flush=True)
    return found


def lines(name: str, bench_dir: Path, home: Path, rows: str = "") -> list[dict[str, Any]]:
    """The peers' lines beside those of the module ``name``; with ``rows`` (cases, models, or CASE/MODEL) of the scripts that have one of them."""
    found, wanted = [], set(rows.split(",")) if rows else set()
    for module, words, models in PEERS[name]:
        if wanted and not any({one["case"], one.get("model", ""), f"{one['case']}/{one.get('model', '')}"} & wanted for one in models.values()):
            continue
        for said in results(home, module, bench_dir, words):
            if said["model"] in models:
                figures = {key: value for key, value in said["metrics"].items() if key in ("recall@10", "ndcg@10", "rmse")}
                costs = {"cpu_seconds": said["cpu_seconds"], "peak_mb": said["peak_rss_mb"]}
                found.append({"by": said["peer"], **models[said["model"]], **costs, **figures})
    return found


def earlier(known: list[dict[str, Any]], now: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The ``known`` lines of peers that ``now`` has no other for."""
    there = {(line.get("case"), line.get("model")) for line in now if line.get("by") != "palate"}
    return [line for line in known if line.get("by") != "palate" and (line.get("case"), line.get("model")) not in there]
