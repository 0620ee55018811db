"""Checkpoints: one safetensors file with JSON and a SHA-256 inside, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor


class BadCheckpoint(ValueError):
    """The file is not a checkpoint of this training; the text says why."""


def save(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write ``tensors`` and the JSON ``facts`` to ``path``: on disk before it takes the old file's place."""
    kept = {name: values.detach().contiguous() for name, values in tensors.items()}
    text = json.dumps(facts, sort_keys=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".draft")
    save_file(kept, draft, metadata={"facts": text, "sha256": _digest(kept, text)})
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(draft, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What ``save`` wrote. BadCheckpoint where the file is torn, altered or something else."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if "facts" not in metadata or metadata.get("sha256") != _digest(tensors, metadata["facts"]):
            raise BadCheckpoint(f"{path}: its contents do not match its checksum; delete it to train from the start")
        return tensors, json.loads(metadata["facts"])
    except (SafetensorError, OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BadCheckpoint(f"{path} cannot be read as a checkpoint ({error}); delete it to train from the start") from error


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        values = tensors[name]
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data if values.numel() else b"")
    return digest.hexdigest()
