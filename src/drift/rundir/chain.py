"""Chains of runs: each generation starts from the policy of the one before (`from` in its config).

A run names the one before it. Whoever comes after is found among the runs in the same folder; a run in another folder
is noted in the one that it starts from.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from drift.errors import DataError
from drift.progress import report_note
from drift.records import json_of, read_jsonl
from drift.rundir import layout
from drift.rundir.view import RunView, list_runs, load_run, real_folder


@dataclass(frozen=True, slots=True)
class Link:
    """A run's place in its chain. `base`: the model or the run that it starts from; `conversations`: those it read for
    the first time, or anew because they had changed; `pairs`: those that its policy was trained on."""

    generation: int
    base: str
    conversations: int | None
    pairs: int | None
    verdict: str | None


def link_of(run: RunView) -> Link:
    """What is not known, of a run of an earlier version or of one that is not finished, is None."""
    parent, policy = parent_folder(run), run.settings.get("policy")
    base = str(policy.get("model", "")) if isinstance(policy, dict) else ""
    if parent is not None:
        base = str(parent) if layout.is_run(parent) else f"{parent} (missing)"
    learned = set(run.learned_from)
    rows = [stage.counts.get("rows") or 0 for stage in run.stages if stage.name in learned]
    marks = run.state.read
    return Link(
        generation=run.state.generation,
        base=base,
        conversations=marks[-1].conversations if marks else None,
        pairs=None if run.kept is None else int(sum(rows)),
        verdict=run.state.verdict,
    )


def parent_folder(run: RunView) -> Path | None:
    """The folder of the run that this one starts from, whether it is there or not; None if it starts from a model.

    Relative to the working folder, as it was written; else the folder of that name beside this run, for runs that moved
    together.
    """
    named = run.settings.get("from")
    if not isinstance(named, str):
        return None
    beside = run.path.parent / Path(named).name
    return real_folder(beside if layout.is_run(beside) and not layout.is_run(Path(named)) else Path(named))


def ancestors(run: RunView) -> list[RunView]:
    """The runs that this one builds on, the latest first, up to the first that is missing or damaged."""
    runs: list[RunView] = []
    seen = {run.path.resolve()}
    while (folder := parent_folder(run)) is not None and layout.is_run(folder) and folder.resolve() not in seen:
        try:
            run = load_run(folder)
        except DataError as error:
            report_note(f"left out, with all that it builds on: {error}")
            break
        seen.add(folder.resolve())
        runs.append(run)
    return runs


def descendants(run: RunView) -> list[RunView]:
    """The runs that build on this one, in its folder or noted as elsewhere, the earliest generation first."""
    here = run.path.resolve()
    built: dict[Path, RunView] = {}
    waiting, listed = [run], set[Path]()
    while waiting:
        at = waiting.pop()
        folder = at.path.resolve().parent
        near = [] if folder in listed else list_runs(at.path.parent, skip_damaged=True)
        listed.add(folder)
        for other, is_noted in (*((each, False) for each in near), *_elsewhere(at)):
            place = other.path.resolve()
            if place in (here, *built):
                continue
            if is_noted or here in {above.path.resolve() for above in ancestors(other)}:
                built[place] = other
                waiting.append(other)
    return sorted(built.values(), key=lambda other: other.state.generation)


@dataclass(frozen=True, slots=True)
class Child:
    """A row of children.jsonl: the absolute path of a run that starts from the run `of`, which is this one unless the
    folder was copied."""

    run: str
    of: str


def note_child(parent: RunView, child: Path) -> None:
    """Note in the parent a run that starts from it in another folder, where `descendants` would not look."""
    here, place = parent.path.resolve(), child.resolve()
    if here.parent == place.parent:
        return
    file, row = parent.path / layout.CHILDREN, Child(str(place), str(here))
    try:
        if not file.exists() or row not in read_jsonl(file, Child):
            with file.open("ab") as end:  # several children may begin at once
                end.write(json_of(row, orjson.OPT_APPEND_NEWLINE))
    except OSError as error:
        report_note(
            f"{file}: cannot be written ({error.strerror}), so nothing keeps `drift run` from doing {parent.path} anew "
            f"with other settings, and `drift trace` there does not show {child}"
        )


def _elsewhere(run: RunView) -> Iterator[tuple[RunView, bool]]:
    """The noted runs that are still there, and whether they were noted for this run: their own `from` may be relative
    to another working folder."""
    file, here = run.path / layout.CHILDREN, str(run.path.resolve())
    for row in read_jsonl(file, Child) if file.exists() else ():
        if layout.is_run(folder := Path(row.run)):
            try:
                yield load_run(folder), row.of == here
            except DataError as error:
                report_note(f"left out: {error}")


def with_ancestors(runs: Sequence[RunView]) -> list[RunView]:
    """The runs and all that they build on, each once and before those that build on it."""
    given = {run.path.resolve(): run for run in runs}
    ordered: dict[Path, RunView] = {}
    for run in runs:
        for each in (*reversed(ancestors(run)), run):
            at = each.path.resolve()
            ordered.setdefault(at, given.get(at, each))
    return list(ordered.values())
