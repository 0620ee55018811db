"""Neural: a user's vector and an item's, joined by a network or trained by a loss that compares many.

To add one: a file with a class of ``contracts.Recaller`` (``learn_from``, ``loss``, ``scores`` or the two encoders) and one line in
``catalog.py``. Vectors of users never seen come from ``layers/folding.py``.
"""
