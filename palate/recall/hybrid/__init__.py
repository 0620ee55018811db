"""Hybrids: retrievers made of other models of the recipe, which are trained before them: ``models = ["itemcf", "ials"]``.

To add one, build on ``parts.Hybrid``, which finds the named ones among ``others: Others``; ``parts.union`` has what they offer side by side.
"""
