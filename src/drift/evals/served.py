"""The answers of servers that are measured: kept while an evaluation is unfinished, and not used by the next one."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from drift.disk import make_folder
from drift.endpoint import ANSWERS, Cache
from drift.endpoint.options import endpoint_settings
from drift.progress import report_note
from drift.records import stable_hash

FINISHED, UNANSWERED, UNDECIDED = "finished", "unanswered", "undecided"


@dataclass(slots=True)
class ServedEvaluation:
    """`decided`: of one that ends with a verdict, whether it came to one. None: it ends when all is answered."""

    decided: bool | None = None


def is_served(source: str) -> bool:
    """Whether the source is URL#MODEL."""
    return source.startswith(("http://", "https://"))


def folder_of_served(source: str, folder: Path) -> Path:
    """Where the answers of one model of one server are kept: two servers may give their models the same name."""
    server = endpoint_settings(source)
    return folder / f"served-{stable_hash(server.base_url.rstrip('/'), server.model)[:8]}"


@contextmanager
def one_evaluation(folder: Path, sources: Iterable[str], *, goes_on: bool = True) -> Iterator[ServedEvaluation]:
    """While it runs, each server's answers are kept in `folder`, so that an interrupted evaluation resumes.

    Those of a finished evaluation are deleted at the start of the next one: the same address may serve another model by
    now, and nothing that a server says would show it. Used again are those of one that left a request unanswered
    (`note_unanswered`), and those of one without a verdict yet, if this one `goes_on` with it.
    """
    make_folder(folder, "an evaluation")
    folders = {folder_of_served(source, folder): source for source in sources if is_served(source)}
    for path, source in folders.items():
        job = _job(path)
        if job == UNANSWERED or (job == UNDECIDED and goes_on):
            report_note(
                f"{source}: its earlier answers are used again. If another model runs there now, name a new --out"
            )
        elif job is not None:
            shutil.rmtree(path)
        _mark(path, None)
    evaluation = ServedEvaluation()
    yield evaluation
    if evaluation.decided is None and UNANSWERED in map(_job, folders):
        return
    for path in folders:
        _mark(path, UNDECIDED if evaluation.decided is False else FINISHED)


def note_unanswered(path: Path) -> None:
    """The server whose answers are in `path` left a request without one that it may still give."""
    _mark(path, UNANSWERED)


def _job(path: Path) -> str | None:
    if not (path / ANSWERS).is_file():
        return None
    with closing(Cache(path / ANSWERS)) as cache:
        return cache.finished_job()


def _mark(path: Path, job: str | None) -> None:
    with closing(Cache(path / ANSWERS)) as cache:
        cache.finish_job(job)
