"""HTTP: only wraps ``palate.recommender``. Nothing here knows a model, a table or a feature.

``app.py`` makes the FastAPI app and its endpoints, ``gate.py`` stands before it (who may do what, sizes, overload, log, metrics),
``keys.py`` holds credentials, ``problems.py`` every error, ``reading.py`` turns queries and bodies into values, ``desk.py`` runs blocking
work off the event loop, ``pages.py`` draws the offline API page, ``server.py`` starts and drains a process, ``demo.py`` is ``palate demo``.

To add an endpoint: write it in ``app.py``, give it a line in ``routes.py`` (path, method, scope, description). Without that line the gate
refuses it: forgotten routes are closed.
"""
