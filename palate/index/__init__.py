"""Nearest neighbours by inner product, behind one ``search(queries, k, exclude, only)``. Only this folder knows a vector library.

An index is a class with ``fit(vectors, ids) -> Self``, ``search(queries, k, exclude=None, only=None) -> (ids, scores)``, ``add(ids, vectors)``,
``remove(ids)``, ``nbytes`` and ``len()``; ids are catalogue rows. ``exact.py`` compares every vector and is the yardstick, ``int8.py`` does so in
a quarter of the memory. The others approximate it and inherit online additions, removals and filters from ``approximate.py``: faiss makes the
structures of ``library.py``, the rest are ours, because a structure must mask single vectors while it is searched. To add one, write
``index/<name>.py`` and a line in ``catalog.py``: the tests of ``tests/index`` run over every index in the catalog.
"""
