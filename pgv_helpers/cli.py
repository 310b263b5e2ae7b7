"""The command line: `pgv …`."""

import os
import sys
from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pgv_helpers import settings
from pgv_helpers.errors import CourseError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="The pgvector course."
)
console = Console()
exercise = typer.Typer(no_args_is_help=True, help="Work on an exercise.")
app.add_typer(exercise, name="exercise")


def main() -> None:
    """Run the command; an error that the user can mend is its message and exit code 1."""
    try:
        app()
    except CourseError as error:
        Console(stderr=True).print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)


@app.command()
def up() -> None:
    """Start the embedded PostgreSQL, unless it runs."""
    from pgv_helpers.server import course_server

    course_server().start()
    status()


@app.command()
def down() -> None:
    """Stop the embedded PostgreSQL. Notebooks lose their connections; committed rows stay."""
    from pgv_helpers.server import course_server

    stopped = course_server().stop()
    console.print("PostgreSQL is stopped." if stopped else "PostgreSQL was not running.")


@app.command()
def status() -> None:
    """Show which server the course uses, and whether it runs."""
    from pgv_helpers.db import masked
    from pgv_helpers.server import course_server

    table = Table(show_header=False, box=None)
    if url := settings.database_url():
        table.add_row("server", "from PGV_DATABASE_URL; the embedded one is not used")
        table.add_row("address", masked(url))
    else:
        server = course_server()
        postmaster = server.status()
        table.add_row("server", f"running, process {postmaster.pid}" if postmaster else "stopped (`pgv up` starts it)")
        table.add_row("data", str(server.data))
        if postmaster:
            table.add_row("address", f"{postmaster.host}, port {postmaster.port}")
            table.add_row("for psql and other programs", "`pgv url` prints the address with the password")
    console.print(table)


@app.command()
def url() -> None:
    """Print the database's URL, with its password, for psql and other programs."""
    from pgv_helpers.db import database_url

    print(database_url())


@app.command()
def reset(yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Delete the embedded server's data and begin anew."""
    from pgv_helpers.server import course_server

    server = course_server()
    if not yes:
        typer.confirm(f"Stop the server and delete every table in {server.data}?", abort=True)
    server.reset()
    console.print("All tables are gone. The next connect() makes a new server.")


@app.command()
def doctor() -> None:
    """Check Python, packages, disk, server, models and key, and say what to do."""
    from pgv_helpers.doctor import examine

    colours = {"good": "green", "warning": "yellow", "broken": "red"}
    table = Table("", "looked at", "found", "what to do")
    findings = []
    with console.status("looking …"):
        for finding in examine():
            findings.append(finding)
            colour = colours[finding.state]
            table.add_row(f"[{colour}]{finding.state}[/]", finding.subject, finding.detail, finding.remedy)
    console.print(table)
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(1)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def lab(context: typer.Context) -> None:
    """Start PostgreSQL and open JupyterLab on the first notebook. Options are JupyterLab's own."""
    from pgv_helpers.db import connect

    first = settings.COURSE_DIR / "notebooks" / "00_start_here.ipynb"
    if not first.exists():
        raise CourseError(
            f"The notebooks are not at {first.parent}.\n"
            "Install the course from a checkout: pip install -c requirements.lock -e ."
        )
    connect().close()
    console.print("PostgreSQL is ready. It goes on when JupyterLab ends; `pgv down` stops it.")
    arguments = [
        f"--ServerApp.root_dir={settings.COURSE_DIR}",
        f"--LabApp.default_url=/lab/tree/notebooks/{first.name}",
        *(["--allow-root"] if settings.running_as_root() else []),
    ]
    command = [sys.executable, "-m", "jupyterlab", *arguments, *context.args]
    os.execve(sys.executable, command, settings.lab_environment())


@app.command()
def check(notebook: str) -> None:
    """Run a saved exercise (its file, or 02, say) in a fresh kernel and list every question."""
    from pgv_helpers.course.shell import check_notebook, find_exercise, show

    path = find_exercise(notebook)
    with console.status(f"running {path.name} …"):
        outcomes, failed = check_notebook(path)
    show(outcomes, failed, console)
    if any(outcome.state != "passed" for outcome in outcomes):
        raise typer.Exit(1)


@app.command()
def watch() -> None:
    """Check an exercise each time it is saved, and show the one thing to do next."""
    from pgv_helpers.course import shell

    shell.watch(console)


@exercise.command("reset")
def reset_exercise(name: str) -> None:
    """Put an exercise (02, say) back to its beginning; your copy stays beside it."""
    from pgv_helpers.course.shell import restore

    restored, kept = restore(name)
    console.print(f"{restored.name} is as it was in the beginning.", markup=False)
    if kept:
        console.print(f"Your work was kept as exercises/{kept.name}.", markup=False)


@app.command()
def grade(
    submissions: Annotated[Path, typer.Argument(help="A folder of notebooks, or a zip as an LMS exports it.")],
    out: Annotated[Path, typer.Option(help="The folder for marks and feedback.")] = Path("grades"),
    jobs: Annotated[int, typer.Option(help="How many at a time; 0 is one for each core.", min=0)] = 0,
    seed: Annotated[
        int | None, typer.Option(help="What the checks draw their inputs from; marks.json has that of a run.", min=0)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a run stopped.")] = False,
    trusted: Annotated[bool, typer.Option("--trusted", help="Without a sandbox: run them as your own code.")] = False,
    dask: Annotated[str, typer.Option(help="Address of a Dask scheduler to hand the work to.")] = "",
) -> None:
    """Grade a folder of submissions: marks, feedback for each learner, a page for the teacher."""
    from pgv_helpers.grading.batch import grade_folder

    marks = grade_folder(submissions, out, jobs=jobs, seed=seed, resume=resume, trusted=trusted, dask=dask)
    table = Table("exercise", "graded", "mean", "full marks", "no marks", "flagged", box=SIMPLE, pad_edge=False)
    for exercise in sorted({mark.exercise for mark in marks}):
        found = [mark for mark in marks if mark.exercise == exercise]
        graded = [mark for mark in found if mark.status == "graded"]
        mean = f"{sum(mark.points for mark in graded) / len(graded):.1f} of {graded[0].maximum}" if graded else ""
        full = sum(mark.points == mark.maximum for mark in graded)
        flagged = sum(bool(mark.tampering) for mark in found)
        table.add_row(escape(exercise), str(len(graded)), mean, *map(str, (full, len(found) - len(graded), flagged)))
    console.print(table)
    print(f"For you: {out / 'overview.html'}\nFor each learner: {out / 'feedback'}\nThe marks: {out / 'marks.csv'}")


@app.command()
def evaluate() -> None:
    """Measure search by words, by vectors and by both in two ways, on the judged questions of the two data sets."""
    from pgv_helpers.datasets import DatasetName
    from pgv_helpers.evaluation import METHODS, evaluate_search, summarise

    table = Table("nDCG@10", *METHODS, "questions", box=SIMPLE, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for dataset in get_args(DatasetName):
        scores = evaluate_search(dataset)
        kinds = [(f"  {kind}", part) for kind, part in scores.groupby("kind", sort=False)]
        for name, part in [(dataset, scores), *kinds]:
            summary = summarise(part).set_index("method").loc[list(METHODS)]
            cells = [f"{it.mean:.2f} ±{(it.high - it.low) / 2:.2f}" for it in summary.itertuples()]
            table.add_row(name, *cells, str(summary.questions.iloc[0]))
    console.print(table)
    console.print("Behind ±: half of the mean's 95 % confidence interval.")


@app.command()
def build(
    vectors: Annotated[
        bool, typer.Option("--vectors", help="Embed the data sets anew, too; it takes minutes.")
    ] = False,
) -> None:
    """For developers: generate exercises/ from solutions/, and the vectors that come with the course."""
    from pgv_helpers.course.build import build as build_exercises

    if vectors:
        from pgv_helpers.datasets import DatasetName, embedded_text, load_documents
        from pgv_helpers.models.embed import ship
        from pgv_helpers.models.offline import compared_texts
        from pgv_helpers.rag import build_prompt

        texts = [text for dataset in get_args(DatasetName) for text in embedded_text(load_documents(dataset))]
        ship([*texts, *compared_texts(build_prompt("What?", load_documents("passages")))])

    changed = build_exercises()
    for path in changed:
        console.print(f"wrote {path.relative_to(settings.COURSE_DIR)}", markup=False)
    if not changed:
        console.print("Everything is in step.")
