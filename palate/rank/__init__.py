"""Rankers: hundreds of candidates, every feature, every task. ``forward(batch) -> logits [B, T]``.

A drawer for each family: ``interaction/`` (feature crosses). To add one: a file ``<family>/<name>.py`` with a class of ``contracts.Ranker``
and one line in ``catalog.py``; ``tests/contract`` finds it by itself. A ranker that also gives ``half`` and ``combine`` (``contracts.Halved``)
is served with the user's half computed once and the items' halves computed ahead.
"""
