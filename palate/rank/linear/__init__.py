"""Rankers without hidden layers: weights of single features, of declared crosses, and of pairs by their vectors. One file a model.

To add one: ``<name>.py`` with a class of ``contracts.Ranker`` and one line in ``catalog.py``. L2 is the trainer's ``weight_decay``.
"""
