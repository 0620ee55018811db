"""Sequential: what comes next in a list of items, by a model that reads the list in order.

To add one: a file with a class of ``contracts.Recaller`` (``learn_from``, ``loss``, ``encode_users``, ``encode_items``) and one line in
``catalog.py``. Examples come from ``datasets/sequences.py``.
"""
