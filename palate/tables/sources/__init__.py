"""Data sets: one file each, a function that returns a ``World`` (events, users, items, terms of use, known preferences if any).

To add one: ``sources/<name>.py`` with a function of keyword arguments, and one line in ``catalog.py``. Data is fetched through the user's
own tools or read from a folder; terms of use are shown first; nothing of a data set lies in this repository.
"""
