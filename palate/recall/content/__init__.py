"""Routes by what items are: ``Tag``, ``Followed``, ``SimilarAuthors``, ``Near`` and ``Content``. All read the catalogue live; sparse rows that change
are in ``lists.py``, items by the values of an attribute in ``shelves.py``.

To add one, take ``catalogue: Catalogue`` in the constructor, look at ``catalogue.changed_since(version)`` at each request, and pass
``catalogue.available`` on as what is allowed.
"""
