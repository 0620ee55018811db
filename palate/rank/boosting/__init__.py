"""Rankers made of boosted trees, fitted without gradients of ours (``contracts.Forest``): ``gbdt.py``, ``lambdamart.py``, ``gbdtlr.py``.

``forest.py`` alone knows LightGBM, an optional extra (``pip install 'palate[trees]'``); ``inputs.py`` turns the columns of a batch into numbers that
trees can split. To add one: a class that overrides what differs from ``GBDT`` (how a task's trees are grown, how a row is answered), and one line in
``catalog.py``; ``tests/contract/test_forests.py`` finds it by itself.
"""
