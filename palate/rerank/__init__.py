"""From ranked candidates to a page: each file is one method, ``rules.py`` holds the short ones (one class, one rule).

A re-rank step is ``__call__(request, candidates) -> candidates``. It changes the order of the list, drops or inserts items, and leaves
the scores as the ranker gave them: from here on the order is the answer. ``request.parameters["k"]`` says how long the page is; what
stands below it is kept, so that the next step has something to move up. Steps run in the order of the recipe; put ``Explore`` after
those that reorder, since a page reordered after the draw no longer fits its logged propensities, and ``Pin`` last.
To add a step, write the class and a line of kind "rerank" in ``catalog.py``.
"""
