"""Recall: from the whole catalogue to a few hundred candidates, by several routes at once. Each file is one route.

``popular/`` the same for everybody; ``neighbor/`` similar users and items; ``factor/`` matrix factorization; ``content/`` attributes of
items; ``two_tower/`` learned towers; ``served/`` what earlier pages left over; ``hybrid/`` made of other models. A family does not import another;
what two share lives in ``palate.index`` or ``palate.layers``.

To add one: a class in ``recall/<family>/<name>.py`` that is a ``contracts.Counter`` (fitted without gradients: ``fit``, ``arrays``,
``from_arrays``, ``retrieve``) or a ``contracts.Embedder``, and one line in ``palate/catalog.py``. It answers from ``request.histories``, so
that a stranger with a history and what a user did a second ago count; it never returns what ``request.exclude`` holds; equal scores
stand in order of catalogue row. ``palate.index.topk`` has what most need: ``distinct`` for the history, ``Table.best`` for sparse sums,
``best_of`` for dense scores, ``walk`` for one order for everybody.
"""
