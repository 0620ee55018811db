"""Items as vectors learned from what is taken together: ``Item2vec`` and ``ListingEmbedding``, skip-grams with negative sampling.

To add one, cut the interactions into sessions with ``together.sessions``, build on the steps of ``skipgram``, and end ``fit`` with
``together.Together.finish``: it answers a history by its items' mean direction.
"""
