"""Multi-interest: a user as several vectors, each finding its own items; an item's score is its best one.

To add one: a file with a class of ``contracts.Recaller`` whose ``encode_users`` gives ``[B, K, D]`` and one line in ``catalog.py``. Capsules are in
``layers/capsules.py``, examples come from ``datasets/sequences.py`` (``Prefixes``).
"""
