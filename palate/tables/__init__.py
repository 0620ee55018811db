"""Tables as they are: events, users and items are loaded, checked, reported on and split here. No torch.

``events.py`` and ``entities.py`` read; ``checks.py`` judges columns; ``files.py`` knows formats; ``report.py`` says what was rejected
and why; ``splits.py`` holds out; ``signals.py`` names subsets of events; ``sources/`` brings data sets.

To add a file format: a suffix in ``files.py`` that gives a polars frame. To add a split: a function ``Events -> Split`` in ``splits.py``
and one line in ``catalog.py``.
"""
