"""Routes that are the same for everybody: ``Popular`` and ``Fresh``. To add one, keep an order of rows and answer with ``topk.walk``."""
