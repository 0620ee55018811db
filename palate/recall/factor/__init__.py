"""Routes by linear models of the matrix of interactions: factors of users and items, weights between items, spectra.

To add one whose score is a product of vectors, give ``user_vectors(request)`` to ``index.retrievers.ByVector``: solve for the user from the history
at request time. Models of ratings build on ``rated.Rated``; others answer with ``topk.best_of``. The compiled parts: ``solve`` (least squares),
``descent`` (ratings, step by step), ``pairwise`` (BPR), ``elastic`` (SLIM).
"""
