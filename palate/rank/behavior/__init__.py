"""Rankers that read what a user did, event by event: one file a model, named as in its paper. ``layers/behaviors.py`` finds the events."""
