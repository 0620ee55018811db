"""Routes by what was served before: ``Former``. To add one, read what ``state`` keeps of pages and a request carries (``Request.former``)."""
