"""The parts of a serving process that can be looked at without one."""

from __future__ import annotations

import io
import json
import logging

from palate.serving.server import _Lines


def test_a_failing_stage_is_logged_without_the_words_of_its_error() -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(_Lines())
    logger = logging.getLogger("palate.funnel.test")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        raise ValueError("canary@example")
    except ValueError as error:
        logger.warning("stage %s failed", "rank", exc_info=error)
    line = json.loads(out.getvalue())
    assert line["event"] == "stage rank failed"
    assert line["error"]["type"] == "ValueError"
    assert line["error"]["frames"][0].startswith("test_server.py:")
    assert "canary" not in out.getvalue()


def test_what_other_libraries_log_comes_without_its_values() -> None:
    record = logging.LogRecord("asyncio", logging.ERROR, "x.py", 1, "failed for %s", ("canary@example",), None)
    text = _Lines().format(record)
    assert "canary" not in text
    assert json.loads(text)["event"] == "failed for %s"
