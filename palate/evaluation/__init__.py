"""How good is it? Measures, the protocols that ask for lists, the table of the funnel's stages and the report.

``metrics/`` holds plain functions; ``offline.py`` the questions after a cut and the run over them; ``stages.py`` what each stage of
the funnel keeps and adds; ``report.py`` one self-contained page of HTML and a table for the terminal. Nothing here knows a model:
all it needs is ``recommend(request, k) -> Candidates``. To add a protocol, write a function that returns ``Questions`` in
``offline.py``; to add a metric, see ``metrics/``.
"""
