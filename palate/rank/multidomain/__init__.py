"""Rankers of several scenes: what all scenes share and what each has for itself. The scene is the feature with ``part = "domain"``.

One file a model, named as in its paper. The plain ways they must beat need no model: any ranker without the scene among its features
(pooled), one for each scene (separate), or with it (a feature like the others).
"""
