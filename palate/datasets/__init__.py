"""Training examples, one shape a file: what ``Model.examples`` names.

``interactions`` (who took what, sparse rows), ``pointwise`` (labelled rows for rankers), ``pairs`` (user and item taken, negatives made
per batch). Sets with gradients have ``len()`` and ``batch(chosen, generator) -> Batch`` and keep their columns in memory
(``columns.py``); the trainer knows nothing else of them. To add a shape: one file, one class with these two methods.
"""
