"""The command line. Heavy modules are imported in command bodies only: ``palate --help`` and ``palate catalog`` load no torch.

Results go to standard output (as JSON with ``--json``), everything said on the way to standard error. Exit codes: 0 done, 1 it could not
be done (the reason stands on standard error), 2 the command was not understood.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from palate.training.trainer import Progress

app = typer.Typer(
    name="palate",
    help="A recommender system: from an event log to served, measured, explained recommendations.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
key_app = typer.Typer(help="Keys of a service: make, list, take away.", no_args_is_help=True)
app.add_typer(key_app, name="key")
index_app = typer.Typer(help="Vector indexes: which one suits your vectors.", no_args_is_help=True)
app.add_typer(index_app, name="index")

Run = Annotated[Path, typer.Argument(help="The run's folder, as given to palate train --out.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]


def say(line: str) -> None:
    """One line to standard error."""
    print(line, file=sys.stderr, flush=True)


def put(value: Any) -> None:
    """A result as JSON on standard output."""
    print(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False, default=str))


class Spinner:
    """Called with a line it prints it and goes on below; ``fitting`` shows how far a training is, how fast, and how long it has to go."""

    def __init__(self, title: str, show: Callable[[str], None], keep: Callable[[str], None]) -> None:
        self.title, self.show, self.keep = title, show, keep

    def __call__(self, line: str) -> None:
        self.keep(line)
        self.show(f"{self.title}: {line.strip()[:80]}")

    def fitting(self, model: str, fit: int, now: Progress) -> None:
        share = ((now.epoch - 1) * now.steps + now.step) / (now.epochs * now.steps)
        bar = ("█" * round(12 * share)).ljust(12, "░")
        minutes, seconds = divmod(round(now.seconds_left), 60)
        left = f"{minutes}:{seconds:02d} left at most" if now.seconds_left else "done"
        self.show(f"{self.title}: {model} {bar} epoch {now.epoch} of {now.epochs}, loss {now.loss:.4f}, {now.rows_per_second:,.0f} rows/s, {left}")


@contextmanager
def progress(title: str) -> Iterator[Spinner]:
    """A function that reports a line: a spinner with the latest line on a terminal, nothing where nobody watches."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield Spinner(title, lambda line: None, lambda line: None)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    with console.status(Text(title)) as status:
        yield Spinner(title, lambda line: status.update(Text(line)), lambda line: console.print(Text(line, style="dim")))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where the run goes; one that is there is used again.")] = Path("runs/movielens"),
    recipe: Annotated[Path | None, typer.Option(help="The recipe; recipes/movielens.toml where left out.")] = None,
    data: Annotated[Path | None, typer.Option(help="A folder with MovieLens-100K in the official format, instead of the download.")] = None,
) -> None:
    """Real data through the whole funnel: get MovieLens-100K, train, measure, serve, ask, and learn from what was answered."""
    from palate.serving.demo import run_demo

    run_demo(out, recipe, data, say=lambda line: print(line, flush=True))


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="CSV, TSV, Parquet or a RecBole atomic file.", show_default=False)],
    kind: Annotated[Literal["events", "users", "items"], typer.Option(help="What the rows are.")] = "events",
    on_bad: Annotated[Literal["stop", "skip", "aside"], typer.Option(help="What to do at a row that cannot be used.")] = "stop",
    out: Annotated[Path | None, typer.Option(help="Write the accepted rows here as Parquet; rows put aside go beside it.")] = None,
    column: Annotated[list[str] | None, typer.Option(help="ours=theirs: the file's name of one of our columns. May be repeated.")] = None,
    multi: Annotated[list[str] | None, typer.Option(help="A column of users or items with several values parted by |. May be repeated.")] = None,
    as_json: Json = False,
) -> None:
    """Check a table and say what was read, accepted and rejected, and why."""
    names: dict[str, str] = {}
    for pair in column or []:
        ours, equals, theirs = pair.partition("=")
        if not equals or not ours or not theirs:
            raise typer.BadParameter(f"write ours=theirs, not {pair!r}", param_hint="--column")
        names[ours] = theirs
    aside = None if out is None else out.with_suffix(".rejected.csv")
    with progress(f"reading {file}"):
        if kind == "events":
            from palate.tables.events import read_events

            events, found = read_events(file, dict(names) or None, on_bad=on_bad, aside=aside)
            frame = events.frame
        else:
            from palate.tables.entities import read_entities

            unknown = [ours for ours in names if ours != "id"]
            if unknown:
                raise typer.BadParameter(f"only id can be renamed in {kind}, not {unknown[0]!r}", param_hint="--column")
            frame, found = read_entities(file, names.get("id"), multi=tuple(multi or ()), on_bad=on_bad, name=file.name, aside=aside)
        if out is not None:
            frame.write_parquet(out, compression="zstd")
    if as_json:
        put(found.to_json())
    else:
        print(found)


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe in TOML.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="The run's folder.", show_default=False)],
    everything: Annotated[bool, typer.Option("--all", help="Learn from all events; nothing is held out to measure on.")] = False,
    tensorboard: Annotated[Path | None, typer.Option(help="Also write the curves for TensorBoard, below this folder.")] = None,
    wandb: Annotated[str | None, typer.Option(help="Also keep the curves as a run of this Weights & Biases project, offline beside the run.")] = None,
    as_json: Json = False,
) -> None:
    """Train what a recipe names and publish it as a run, with its curves as JSON lines."""
    from palate.workflow import train as fit

    also: list[Any] = []
    if tensorboard is not None:
        from palate.training.tensorboard import TensorBoard

        also.append(TensorBoard(tensorboard))
    if wandb is not None:
        from palate.training.wandb import WeightsAndBiases

        also.append(WeightsAndBiases(wandb, out))
    try:
        with progress(f"training {recipe}") as report:
            run = fit(recipe, out, holdout=not everything, report=report, watch=(report.fitting, *also))
    finally:
        for one in also:
            one.close()
    if as_json:
        put({"run": str(out), "versions": dict(run.versions)})
    else:
        print(f"{out}: ready. Ask with: palate recommend {out} --user USER; serve with: palate serve {out}")


@app.command()
def evaluate(run: Run, as_json: Json = False) -> None:
    """Measure a run: every route, every stage, the final list."""
    from palate.workflow import evaluate as measure

    with progress(f"evaluating {run}") as report:
        found = measure(run, report=report)
    if as_json:
        put(found)
    else:
        from palate.evaluation.report import text

        print(text(found))


@app.command()
def reproduce(
    name: Annotated[str | None, typer.Argument(help="A row, as --list names them.", show_default=False)] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where data sets lie that cannot be fetched.")] = None,
    seeds: Annotated[int, typer.Option(help="How many seeds, the first being --seed.", min=1)] = 1,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    listed: Annotated[bool, typer.Option("--list", help="The rows there are.")] = False,
    as_json: Json = False,
) -> None:
    """Train a row of a published table, or of a peer's, anew and print our figures beside theirs."""
    from palate import reproduce as rows
    from palate.evaluation.report import text_table

    if listed or name is None:
        if as_json:
            put([{"row": row.name, "model": row.model, "data": row.case, "theirs": dict(row.theirs), "source": row.source} for row in rows.ROWS])
        else:
            shown = [(row.name, ", ".join(f"{key} {value}" for key, value in row.theirs.items()) or "-", row.source) for row in rows.ROWS]
            print(text_table(("row", "theirs", "source"), shown))
        return
    row = rows.find(name)
    with progress(f"reproducing {row.name}") as report:
        data = rows.CASES[row.case](data_dir, report)
        found = [rows.run(row, data, seed + n, partial(report.fitting, row.name, seed + n)) for n in range(seeds)]
    if as_json:
        put({"row": row.name, "protocol": data.protocol, "theirs": dict(row.theirs), "source": row.source, "runs": found})
        return
    print(f"{row.model} on {row.case} ({data.protocol}), {seeds} seed{'s' if seeds > 1 else ''}; theirs: {row.source or 'none'}")
    print(text_table(("figure", "ours", "deviation", "theirs"), rows.beside(row, found)))


@app.command()
def lint(
    recipe: Annotated[Path, typer.Argument(help="A recipe in TOML.", show_default=False)],
    measure: Annotated[bool, typer.Option(help="Train with and without each leak and print both metrics (minutes).")] = True,
    as_json: Json = False,
) -> None:
    """Find what a recipe lets a model see that it cannot know when it is asked; exit code 1 where there is a leak."""
    from palate.lint import lint as look
    from palate.recipe import Recipe
    from palate.workflow import load_world

    asked = Recipe.load(recipe)
    with progress(f"looking at {recipe}") as report:
        found = look(asked, load_world(asked, recipe.resolve().parent, report), measure=measure, report=report)
    if as_json:
        put([vars(one) for one in found])
    else:
        for one in found:
            print(f"{one.level.upper()}  {one.check}, {one.where}: {one.message}")
            if one.inflated is not None and one.clean is not None:
                print(f"      {one.metric}: {one.inflated:.4f} with it, {one.clean:.4f} without")
        print(f"{recipe}: {sum(one.level == 'leak' for one in found)} leaks, {sum(one.level == 'note' for one in found)} notes")
    if any(one.level == "leak" for one in found):
        raise typer.Exit(1)


@app.command()
def crosses(
    recipe: Annotated[Path, typer.Argument(help="A recipe in TOML.", show_default=False)],
    by: Annotated[str, typer.Option(help="gate, gradient or permutation: which measure chooses.")] = "gate",
    most: Annotated[int, typer.Option(help="How many pairs at most.", min=0)] = 5,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the recipe that results here instead of printing it.")] = None,
    as_json: Json = False,
) -> None:
    """Find the pairs of columns that are worth a cross, and print the recipe with them."""
    chosen(by, "--by", ("gate", "gradient", "permutation"))
    from palate.crosses import crosses as choose
    from palate.evaluation.report import text_table
    from palate.recipe import Recipe
    from palate.workflow import load_world

    asked = Recipe.load(recipe)
    with progress(f"crossing {recipe}") as report:
        found, text = choose(asked, load_world(asked, recipe.resolve().parent, report), by, most, report=report)  # type: ignore[arg-type]
    if out is not None:
        out.write_text(text, "utf-8")
    if as_json:
        put({"pairs": [vars(one) | {"of": list(one.of)} for one in found], "recipe": text})
        return
    rows = [(" x ".join(one.of), f"{one.gate:.3f}", f"{one.gradient:.5f}", f"{one.permutation:.5f}") for one in found[: max(20, most)]]
    say(text_table(("pair", "gate", "gradient", "permutation"), rows))
    print(f"{out}: written" if out is not None else text)


@app.command()
def search(
    recipe: Annotated[Path, typer.Argument(help="A recipe in TOML with a [search].", show_default=False)],
    model: Annotated[str, typer.Option(help="Search this model's options only, scored by itself; left out: all, scored by the final list.")] = "",
    trials: Annotated[int, typer.Option(help="How many; 0: a whole grid, else 20. More than before adds to what is there.", min=0)] = 0,
    method: Annotated[str, typer.Option(help="grid, random or bayesian.")] = "bayesian",
    pruning: Annotated[str, typer.Option(help="median, halving or none: how a model's trial that falls behind is ended early.")] = "median",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of trials and result; runs/search-RECIPE where left out.")] = None,
    jobs: Annotated[int, typer.Option(help="Trials at once, each in a process, as far as memory allows.", min=1)] = 1,
    as_json: Json = False,
) -> None:
    """Find the best options of a recipe's models on its training events, and write the recipe that has them. Goes on after a kill."""
    chosen(method, "--method", ("grid", "random", "bayesian"))
    chosen(pruning, "--pruning", ("median", "halving", "none"))
    from palate.evaluation.report import text_table
    from palate.search import rows_of
    from palate.search import search as look

    folder = out or Path("runs") / f"search-{recipe.stem}"
    with progress(f"searching {recipe}") as report:
        line = report if sys.stderr.isatty() else say
        options: dict[str, Any] = {"model": model, "method": method, "trials": trials, "pruning": pruning, "jobs": jobs}
        found = look(recipe, folder, report=report, line=line, **options)
    if as_json:
        put(found.to_json())
        return
    print(text_table(*rows_of(found, model, 10)))
    print(f"{folder / 'best.toml'}: the recipe with the best options, for palate train; {folder / 'search.html'}: all trials")


@app.command()
def skew(
    run: Run,
    state: Annotated[Path | None, typer.Option(help="The service's state folder; RUN/state where left out.")] = None,
    as_json: Json = False,
) -> None:
    """Make the features of served pages anew from tables and log, and compare them bit by bit with what the ranker saw."""
    from palate.evaluation.report import text_table
    from palate.skew import skew as compare

    with progress(f"comparing {run}") as report:
        found = compare(run, state, report)
    if as_json:
        put(found.to_json())
    else:
        print(f"{found.pages:,} pages, {found.rows:,} rows, {found.features} features compared; {len(found.differences)} differ")
        if found.differences:
            rows = [
                (one.feature, f"{one.differing:,} of {one.rows:,}", one.request_id, one.item, f"{one.online}", f"{one.offline}")
                for one in found.differences
            ]
            print(text_table(("feature", "rows that differ", "first page", "item", "online", "offline"), rows))
    if not found.clean:
        raise typer.Exit(1)


@app.command()
def recommend(
    run: Run,
    user: Annotated[str | None, typer.Option(help="A user's id.")] = None,
    k: Annotated[int, typer.Option("-k", "--k", help="How many items.", min=0)] = 10,
    history: Annotated[str | None, typer.Option(help="Item ids, oldest first, parted by commas: for a user the run does not know.")] = None,
    why: Annotated[bool, typer.Option(help="With a reason for each item, and its way through the stages.")] = False,
    as_json: Json = False,
) -> None:
    """Ask a run for a list; nothing is kept."""
    if user is None and history is None:
        raise typer.BadParameter("name a user or a history", param_hint="--user / --history")
    from palate.recommender import Recommender

    recommender = Recommender.load(run)
    past = None if history is None else [one for one in history.split(",") if one]
    page = recommender.recommend(user, k, history=past, log=False, why=why)
    if as_json:
        from palate.serving.app import page_json

        put(page_json(page, why))
        return
    for note in [*page.notes, *(f"did without {part}" for part in page.degraded)]:
        say(note)
    from palate.evaluation.report import text_table

    title = next((name for name in ("title", "name") if name in recommender.items.attribute_names), "")
    rows = [
        (
            shown.position + 1,
            shown.item,
            recommender.items.attributes(recommender.items.row(shown.item)).get(title, "") if title else "",
            f"{shown.score:.4f}",
        )
        for shown in page.items
    ]
    told = [(*row, *([page.trace["reasons"][shown.item]] if why else [])) for row, shown in zip(rows, page.items, strict=True)]
    print(text_table(("", "item", title, "score", *(["why"] if why else [])), told))
    if why:
        put(page.trace)


@app.command()
def serve(
    run: Run,
    host: Annotated[str, typer.Option(help="Address to listen on. One that others can reach needs a key first.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0: any free one.", min=0, max=65535)] = 8000,
    state: Annotated[Path | None, typer.Option(help="Where the service keeps what it learns; RUN/state where left out.")] = None,
    allow_host: Annotated[list[str] | None, typer.Option(help="A further name this service answers to (Host header).")] = None,
    allow_origin: Annotated[list[str] | None, typer.Option(help="A web origin whose pages may call it.")] = None,
    workers: Annotated[int, typer.Option(help="Threads that draw pages.", min=1, max=64)] = 1,
    access_log: Annotated[bool, typer.Option(help="A JSON line per call on standard error.")] = True,
    keep_features: Annotated[float, typer.Option(help="Share of pages whose features are kept for palate skew.", min=0.0, max=1.0)] = 0.01,
) -> None:
    """Serve a run over HTTP until SIGTERM or Ctrl-C."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # a page's matrices are small: threads that wait for each other cost more than they bring
    from palate.serving.server import serve as run_server
    from palate.serving.settings import Settings

    settings = Settings(
        host=host,
        port=port,
        hosts=tuple(name.lower() for name in allow_host or ()),
        origins=tuple(origin.lower() for origin in allow_origin or ()),
        workers=workers,
        access_log=access_log,
        keep_features=keep_features,
    )
    run_server(run, settings, state)
    # Everything is on disk and every client is answered: the interpreter's own end would take another second for torch's sake.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


@app.command()
def report(run: Run, out: Annotated[Path | None, typer.Option("--out", "-o", help="The page; RUN/report.html where left out.")] = None) -> None:
    """Write the run's figures as one self-contained HTML page."""
    from palate.workflow import write_report

    with progress(f"report of {run}") as said:
        page = write_report(run, out or run / "report.html", report=said)
    print(page)


@app.command()
def catalog(
    kind: Annotated[str | None, typer.Option(help="Only entries of this kind, such as recall or rank.")] = None,
    as_json: Json = False,
) -> None:
    """List everything a recipe can name."""
    from palate.catalog import ENTRIES

    if kind is not None:
        chosen(kind, "--kind", tuple(dict.fromkeys(entry.kind for entry in ENTRIES)))
    entries = [entry for entry in ENTRIES if kind is None or entry.kind == kind]
    if as_json:
        put([{"name": one.name, "kind": one.kind, "summary": one.summary, "paper": one.paper} for one in entries])
        return
    name, of = max(len(one.name) for one in entries), max(len(one.kind) for one in entries)
    for one in entries:
        print(f"{one.name:<{name}}  {one.kind:<{of}}  {one.summary}{f' ({one.paper})' if one.paper else ''}")


@app.command()
def doctor(
    run: Annotated[Path | None, typer.Argument(help="Also check this run: files, hashes, state.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Look at this installation, and at a run, and say how to mend what is wrong."""
    from palate.serving.doctor import examine

    findings = examine(run)
    if as_json:
        put([{"check": one.check, "ok": one.ok, "found": one.found, "fix": one.fix} for one in findings])
    else:
        for one in findings:
            print(f"{'ok   ' if one.ok else 'WRONG'}  {one.check}: {one.found}{f'. {one.fix}' if one.fix else ''}")
    if any(not one.ok for one in findings):
        raise typer.Exit(1)


State = Annotated[Path, typer.Option(help="The service's state folder (RUN/state where palate serve was not told otherwise).", show_default=False)]


@key_app.command("add")
def key_add(
    name: Annotated[str, typer.Argument(help="What the key is called in logs.", show_default=False)],
    state: State,
    scopes: Annotated[str, typer.Option(help="read, write, admin, joined by commas.")] = "read",
) -> None:
    """Make a key and print it: it is shown this once."""
    from palate.serving import keys

    print(keys.add(state, name, [scope.strip() for scope in scopes.split(",") if scope.strip()]))


@key_app.command("list")
def key_list(state: State) -> None:
    """Names and scopes of the keys."""
    from palate.serving import keys

    for name, scopes in keys.names(state):
        print(f"{name}\t{','.join(scopes)}")


@key_app.command("remove")
def key_remove(name: Annotated[str, typer.Argument(show_default=False)], state: State) -> None:
    """Take a key away; a running service forgets it at its next start."""
    from palate.serving import keys

    keys.remove(state, name)


@index_app.command("bench")
def index_bench(
    source: Annotated[Path, typer.Argument(metavar="VECTORS.npy|RUN", help="A matrix, or a run whose model has vectors.", show_default=False)],
    model: Annotated[str | None, typer.Option(help="Of a run: which model; the first with vectors where left out.")] = None,
    queries: Annotated[Path | None, typer.Option(help="Of a matrix: the vectors to ask with, as .npy; some of its own where left out.")] = None,
    k: Annotated[int, typer.Option("-k", "--k", help="How many neighbours.", min=1)] = 10,
    recall: Annotated[float, typer.Option(help="The share of an exact search's answers that must be found.", min=0.01, max=1.0)] = 0.95,
    name: Annotated[list[str] | None, typer.Option("--index", help="Only this index, beside Exact. May be repeated.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the curves as a self-contained page here.")] = None,
    as_json: Json = False,
) -> None:
    """Measure recall, latency and memory of every index over your own vectors, and recommend one."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # one question is too little for two threads
    run = source.is_dir()
    if run and queries is not None:
        raise typer.BadParameter("a run's users ask; leave it out", param_hint="--queries")
    if not run and model is not None:
        raise typer.BadParameter("only a run has models", param_hint="--model")
    from palate import indexbench
    from palate.evaluation.report import text_table, write

    with progress(f"indexes over {source}") as report:
        vectors = indexbench.of_run(source, model) if run else indexbench.of_files(source, queries)
        found = indexbench.bench(vectors, k, recall, tuple(name or ()), report)
    if html is not None:
        write(found.page(), html)
    if as_json:
        put(found.to_json())
        return
    size, dim = vectors.vectors.shape
    if vectors.note:
        say(vectors.note)
    print(text_table(indexbench.COLUMNS, found.rows(), f"{vectors.title}: {size:,} vectors of {dim}, {len(vectors.queries):,} questions, recall@{k}"))
    print(f"\nfor recall {recall:g}: {found.chosen.name}. In a route of a recipe:\n{found.chosen.recipe}")


def chosen(value: str, option: str, known: Sequence[str]) -> None:
    """Refuse a value that is not one of the known, naming the nearest."""
    from palate.schema import nearest

    if value not in known:
        raise typer.BadParameter(f"there is no {value!r}{nearest(value, known)}", param_hint=option)


def main() -> None:
    """The program ``palate``: no traceback for what a user can mend."""
    try:
        app(prog_name="palate")
    except (ValueError, LookupError, OSError) as error:
        if os.environ.get("PALATE_TRACEBACK"):
            raise
        if isinstance(error, BrokenPipeError):  # the reader of our output has gone, such as head
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        say(f"palate: {text or type(error).__name__}")
        sys.exit(1)
    except RuntimeError as error:
        from palate.state.log import StateError

        if not isinstance(error, StateError) or os.environ.get("PALATE_TRACEBACK"):
            raise
        say(f"palate: {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        say("palate: interrupted")
        sys.exit(130)


if __name__ == "__main__":
    main()
