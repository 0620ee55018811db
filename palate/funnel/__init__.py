"""From a request to a list: routes are merged, filtered, pre-ranked, ranked and re-ranked.

``funnel.py`` runs the stages in order, with a deadline for each while serving (``guard.py``); ``merge.py`` is the snake merge, ``filters.py``
the rules about what may be shown, ``steps.py`` puts trained models to work (``sides.py`` computes each half of their input once), ``trace.py``
remembers what happened, ``explain.py`` says why an item is there. To add a filter, write a class with
``__call__(request, candidates) -> candidates`` that only drops, and a line of kind "filter" in ``catalog.py``. A scorer never drops.
"""
