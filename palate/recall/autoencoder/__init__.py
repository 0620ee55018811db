"""Autoencoders: a history in, what belongs to it out, by a network that learned to give users' own items back.

To add one: a file with a class of ``contracts.Recaller`` (``learn_from``, ``loss``, ``encode_users``, ``encode_items``) and one line in
``catalog.py``. Histories as bags are in ``layers/bags.py``.
"""
