"""Graph: vectors of users and items smoothed over the graph of who took what.

To add one: a file with a class of ``contracts.Recaller`` (``learn_from``, ``loss``, ``encode_users``, ``encode_items``) and one line in
``catalog.py``. The graph, its vectors and those of users never seen are in ``graph.py``.
"""
