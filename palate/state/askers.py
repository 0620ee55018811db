"""Askers: what is known of those who ask. What a request tells goes before what the catalogue of users knows."""

from __future__ import annotations

from typing import Any

from palate.candidates import Request
from palate.state.catalogue import Catalogue


class Askers:
    """For routes that answer from attributes of the user or the moment. Reads ``users`` live."""

    def __init__(self, users: Catalogue) -> None:
        self.users = users

    def told(self, request: Request, name: str) -> list[Any]:
        """One value for each requester ``[B]``: of the context, else of the attributes, else of the user in the catalogue; None where none knows."""
        column = self.users.column(name) if name in self.users.attribute_names else []
        found = [column[row] if 0 <= row < len(column) else None for row in request.users.tolist()]
        for given in (request.attributes.get(name), request.context.get(name)):
            if given is not None:
                found = [old if new is None else new for old, new in zip(found, given, strict=True)]
        return found
