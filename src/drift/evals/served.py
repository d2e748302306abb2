"""The answers of servers that are measured: kept while an evaluation is unfinished, and not used by the next one."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from drift.disk import make_folder
from drift.endpoint import ANSWERS, Cache
from drift.endpoint.options import endpoint_settings
from drift.progress import report_note
from drift.records import stable_hash

FINISHED, UNANSWERED = "finished", "unanswered"


def is_served(source: str) -> bool:
    """Whether the source is URL#MODEL."""
    return source.startswith(("http://", "https://"))


def folder_of_served(source: str, folder: Path) -> Path:
    """Where the answers of one model of one server are kept: two servers may give their models the same name."""
    server = endpoint_settings(source)
    return folder / f"served-{stable_hash(server.base_url.rstrip('/'), server.model)[:8]}"


@contextmanager
def one_evaluation(folder: Path, sources: Iterable[str], *, further: bool = False) -> Iterator[None]:
    """While it runs, each server's answers are kept in `folder`, so that an interrupted evaluation resumes.

    Those of a finished evaluation are deleted at the start of the next one: the same address may serve another model by
    now, and nothing that a server says would show it. `further`: this one goes on with the same models and more items,
    so it uses them. So does one that asks again for what had no answer (`note_unanswered`).
    """
    make_folder(folder, "an evaluation")
    folders = {folder_of_served(source, folder): source for source in sources if is_served(source)}
    for path, source in folders.items():
        job = _job(path)
        if job == UNANSWERED or (job == FINISHED and further):
            report_note(
                f"{source}: its earlier answers are used again. If another model runs there now, name a new --out"
            )
        elif job == FINISHED:
            shutil.rmtree(path)
        _mark(path, None)
    yield
    if UNANSWERED not in map(_job, folders):
        for path in folders:
            _mark(path, FINISHED)


def note_unanswered(path: Path) -> None:
    """The server whose answers are in `path` left a request without one, so the evaluation is not finished with it."""
    _mark(path, UNANSWERED)


def _job(path: Path) -> str | None:
    if not (path / ANSWERS).is_file():
        return None
    with closing(Cache(path / ANSWERS)) as cache:
        return cache.finished_job()


def _mark(path: Path, job: str | None) -> None:
    with closing(Cache(path / ANSWERS)) as cache:
        cache.finish_job(job)
