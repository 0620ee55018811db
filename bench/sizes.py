"""Prints the files that are longer than what the best codebases of this field show. It informs and never fails."""

from pathlib import Path

LIMITS = (("palate/recall", 120), ("palate/rank", 120), ("palate/prerank", 120), ("palate/rerank", 120), ("palate", 400))


def main() -> None:
    files = sorted(Path("palate").rglob("*.py"))
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    for path, count in lines.items():
        limit = next(limit for place, limit in LIMITS if path.is_relative_to(place))
        if count > limit:
            print(f"{path}: {count} lines (aim: {limit})")
    for folder in sorted({path.parent for path in files}):
        inside = sum(path.parent == folder for path in files)
        if inside > 20:
            print(f"{folder}: {inside} files (aim: 20)")
    print(f"{len(files)} files, {sum(lines.values())} lines in palate/")


if __name__ == "__main__":
    main()
