"""Routes by likeness of users, items or sessions: ``UserCF``, ``ItemCF``, ``Swing``, ``Session``.

``similarity.py`` holds the compiled kernel of all measures that are sums over shared columns; ``item_to_item.py`` what models that keep
lists of neighbours of items share. To add such a model, subclass ``ItemToItem`` and write ``fit``, ending in ``self._found(lists)``.
"""
