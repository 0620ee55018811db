"""Measures as plain vectorised functions: arrays in, one number a user (or one number) out.

``ranking.py`` judges lists against relevant items, ``rating.py`` predicted numbers and probabilities against labels, ``lists.py``
looks at the lists themselves, ``statistics.py`` says how sure a mean or a difference is. To add a metric, write a function in the
file it belongs to and a line of kind "metric" in ``catalog.py``; test it against a reference library or a case worked by hand.
"""
