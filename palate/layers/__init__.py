"""Torch blocks that two or more models share, and the losses as plain functions.

``embedding.py`` alone owns tables; ``losses.py`` knows scores and labels only; ``towers.py`` holds perceptrons and the split first layer.
A block moves here at its second user, not at its first: one file, one operation, its formula and paper in the docstring.
"""
