"""Raw columns become model inputs here: the same object offline, in bulk, and online, for one request.

``pipeline.py`` holds the one ``FeaturePipeline``; ``transforms.py`` the columns of users, items and the moment, ``history.py`` what a user did,
``counters.py`` what depends on the time or on both sides, ``kinds.py`` what every transform promises, ``vocabulary.py`` values as ids,
``sheet.py`` the encoded columns of a live catalogue by row.

To add one: write a dataclass over ``kinds.Static`` (a value of a user, item or context in, columns out) in ``transforms.py`` or over
``kinds.Timed`` (a request and its candidates in, columns out) in ``history.py`` or ``counters.py``; its fields are the options of a recipe.
Say what it makes in ``columns()``, learn from training rows only, return what was learnt from ``learnt()`` and ``arrays()``; then add one line
to ``catalog.py``.
"""
