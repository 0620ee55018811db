"""Pre-rank: thousands of candidates to hundreds, at the cost of one inner product each.

A pre-ranker is an Embedder (item vectors cached, no crossed features) taught by the ranker: ``distilled.py`` wraps any Embedder for that, so a
light model needs no class of its own. In a recipe: ``name = "DSSM", teacher = "ranker"``.
"""
