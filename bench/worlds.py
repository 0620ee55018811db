"""The mechanism worlds of the tests with more rows: each model where its idea must win and where it must not lose, beside the plain alternative.

    python -m bench.worlds [--times 4] [--only din dcnv2 ...]

The worlds and what is compared are the tests' own (``beats`` in tests/conftest.py). A stated margin is that of the test's size: here it is shown
beside what was found, not demanded.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1] / "tests"


class Lines:
    """A plug-in of pytest: only tests that judge a world, each comparison as a line of JSON."""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if "beats" in getattr(item, "fixturenames", ())]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            for _, line in report.user_properties:
                print(json.dumps({"bench": "worlds", **line}), flush=True)  # type: ignore[dict-item]
        if report.failed:
            print(report.longreprtext, file=sys.stderr, flush=True)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            print(report.longreprtext, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=4, help="how many times the rows of the tests")
    parser.add_argument("--only", nargs="*", default=[], help="files of tests that judge a world, without test_ and .py, or their folders")
    given = parser.parse_args()
    files = {
        path: {path.stem.removeprefix("test_"), *path.relative_to(TESTS).parts[:-1]}
        for path in sorted(TESTS.rglob("test_*.py"))
        if "beats: Beats" in path.read_text("utf-8")
    }
    unknown = set(given.only).difference(*files.values())
    if unknown:
        parser.error(f"--only: there is no {', '.join(sorted(unknown))}")
    chosen = [str(path) for path, names in files.items() if not given.only or names & set(given.only)]
    quiet = ["-p", "no:terminal", "-p", "no:cacheprovider", "-s", "-o", "addopts=--import-mode=importlib"]
    code = pytest.main([*quiet, "--worlds", str(given.times), *chosen], plugins=[Lines()])
    return 0 if code in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) else int(code)  # what else a test asserts is of its own size


if __name__ == "__main__":
    sys.exit(main())
