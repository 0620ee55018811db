"""Routes by what items are: ``Tag`` and ``Content``. Both read the catalogue live and keep sparse rows in ``lists.py``.

To add one, take ``catalogue: Catalogue`` in the constructor, look at ``catalogue.changed_since(version)`` at each request, and pass
``catalogue.available`` on as what is allowed.
"""
