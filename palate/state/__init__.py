"""What the live system knows: catalogues, histories, counts, shown and used items, pages.

``catalogue.py`` gives ids their rows, and attribute values their items. ``rows.py`` holds events as arrays. ``past.py`` answers about
any moment of the past, in bulk; ``live.py`` (over ``totals.py``) answers about now, for one user in microseconds; both give the same
bits. ``seen.py`` keeps what was shown, ``consumed.py`` what was used. ``check.py`` says whether an incoming event is sound.
``log.py`` is the durable log under it all, ``rebuild.py`` and ``frames.py`` read it back.
``embedded.py`` puts them together behind ``interface.State``.

To add a filter of shown items: a class with the promises of ``seen.SeenFilter`` and its name in ``seen.seen_filter``. To add a store
(Redis, say): a class with the promises of ``interface.State``; the tests in ``tests/state/test_embedded.py`` say what they mean.
"""
