"""Rankers that cross features: one file a model, named as in its paper. Shared blocks live in ``palate/layers``."""
