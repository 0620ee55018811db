"""Nearest neighbours by inner product, behind one ``search(queries, k, exclude)``. Only this folder knows a vector library.

An index is a class with ``fit(vectors, ids) -> Self``, ``search(queries, k, exclude=None) -> (ids, scores)``, ``add(ids, vectors)``,
``remove(ids)`` and ``len()``; ids are catalogue rows. ``exact.py`` compares every vector and is the yardstick; ``hnsw.py`` and
``ivf.py`` approximate it and inherit online additions, removals and exclusion from ``approximate.py``. To add one, write
``index/<name>.py`` and a line in ``catalog.py``: the tests of ``tests/index`` run over every index in the catalog.
"""
