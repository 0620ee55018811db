"""Rankers of several tasks: what is shared between them, what each has for itself, and tasks that follow one on another.

One file a model, named as in its paper. Each stands on a ``bottom`` (``layers/bottoms.py``): the fields, with or without their crossings.
What a task minimises and how much it weighs is declared with it (``loss`` and ``weight`` of the recipe's ``[tasks]``).
"""
