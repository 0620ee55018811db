"""Routes by matrix factorization: ``IALS``. To add one, solve for the user from the history at request time and answer with ``topk.best_of``."""
