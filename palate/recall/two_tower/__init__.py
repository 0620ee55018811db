"""Two towers: users and items become vectors whose inner product is the score, so that an index can find the best items.

To add one: a file with a class of ``contracts.Embedder`` (``encode_user``, ``encode_item``, ``loss``) and one line in ``catalog.py``. Negatives come
from ``datasets/pairs.py``; exposures that were not taken never are one.
"""
