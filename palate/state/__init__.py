"""What the live system knows: catalogues, histories, counters, seen items, pages.

``catalogue.py`` gives ids their rows, and attribute values their items. ``rows.py`` holds events as arrays. ``past.py`` answers
about any moment of the past, in bulk; ``live.py`` answers about now, for one user in microseconds; both give the same bits.
``seen.py`` keeps what was shown. ``log.py`` is the durable log under it all; ``embedded.py`` puts them together behind
``interface.State``. To add a store (Redis, say): a class that keeps the promises of ``State``, and the tests of
``tests/state/test_embedded.py`` run over it.
"""
