"""`drift export`: the model, the pairs and the report of a run, in one folder."""

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from drift.errors import DataError
from drift.policy.source import ADAPTER
from drift.progress import report_note
from drift.records import PreferencePair, json_of, read_jsonl, write_jsonl
from drift.report.page import write_report
from drift.rundir import RunView, layout, load_run
from drift.store import store_of


@dataclass(frozen=True, slots=True)
class ExportSummary:
    model: str
    pairs: str
    rows: int
    report: str


def export_run(run: Path, to: Path) -> ExportSummary:
    """Write `to`/model (loads with transformers), `to`/pairs.jsonl (TRL's conversational preference format, those of
    the warm start and of all iterations; see `trl_row`) and `to`/report.html. Replies without a partner go to
    `to`/unpaired.jsonl, in TRL's unpaired preference format. Rows of conversations that the run's store has forgotten
    are left out, with a note. An adapter on a base that the run unpacked from a GGUF file gets it in `to`/base.

    Raises DataError as `finished_run` and `check_target` do.
    """
    view = finished_run(run)
    check_target(to)
    to.mkdir(parents=True, exist_ok=True)
    shutil.copytree(view.path / layout.POLICY, to / "model")
    _add_base(view, to)
    rows = _write_pairs(view, to)
    return ExportSummary(str(to / "model"), str(to / "pairs.jsonl"), rows, str(write_report(run, to / "report.html")))


def _write_pairs(view: RunView, to: Path) -> int:
    """Write the rows of the warm start and of all iterations; returns how many. Notes count those that are left out,
    as their conversations were forgotten, and those that were cut."""
    files = [
        view.file(f"{layout.LIKED_START}/{layout.PAIRS}"),
        view.file(f"{layout.WARM_START}/{layout.PAIRS}"),
        *(view.file(f"{layout.iteration(k)}/{layout.PAIRS}") for k in view.iterations),
    ]
    pairs = (pair for file in files if file for pair in read_jsonl(file, PreferencePair))
    store = store_of(view)
    forgotten = store.forgotten() if store else None
    if view.state.store_id and (store is None or store.store_id() != view.state.store_id):
        report_note(
            "the store that this run read is not there, so nobody knows what was forgotten since: nothing is left out"
        )
    alone: list[PreferencePair] = []
    cut = left_out = 0

    def paired() -> Iterator[PreferencePair]:
        nonlocal cut, left_out
        for pair in pairs:
            if forgotten and forgotten.holds(pair.conversation_id):
                left_out += 1
                continue
            cut += not pair.is_finished
            if pair.is_paired:
                yield pair
            else:
                alone.append(pair)

    rows = write_jsonl(to / "pairs.jsonl", map(trl_row, paired()))
    if alone:
        rows += write_jsonl(to / "unpaired.jsonl", map(trl_unpaired_row, alone))
    if left_out:
        report_note(f"{left_out} rows of conversations that were forgotten since are left out")
    if cut:
        report_note(
            f"{cut} of {rows} rows have a reply that was cut at a limit (`finish` or `rejected_finish` is length). "
            "A trainer that ends every reply with the end token would teach it to end there: leave these rows out"
        )
    return rows


def finished_run(run: Path) -> RunView:
    """The run, if it has a policy and is done. Raises DataError if not, or if there is no run."""
    view = load_run(run)
    if view.file(layout.POLICY) is None or view.state.state != "done":
        raise DataError(f"{run}: no policy to export yet ({view.state.state}). Run its `drift run` again to resume it.")
    return view


def check_target(to: Path) -> None:
    """Raises DataError if the folder is a file or not empty."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise DataError(f"{to}: already exists. Name a new or empty folder: --to DIR.")


def trl_row(pair: PreferencePair) -> dict[str, Any]:
    """A pair in TRL's shape: `tools` is a list of schemas, the arguments of a call are an object, and thoughts are
    `reasoning_content`, as chat templates read them. A pair without any of these has the fields of a pair alone."""
    row = orjson.loads(json_of(pair))
    tools, follow_up = row.pop("tools"), row.pop("follow_up")
    for side in ("prompt", "chosen", "rejected"):
        row[side] = [_trl_message(message) for message in row[side]]
    if follow_up is not None:
        row["follow_up"] = _trl_message(follow_up)
    return row if tools is None else {**row, "tools": orjson.loads(tools)}


def trl_unpaired_row(pair: PreferencePair) -> dict[str, Any]:
    """A reply without a partner as `completion`, with `label` true for a liked one; none for one with a `follow_up`,
    because nobody judged it."""
    row = trl_row(pair)
    chosen, rejected = row.pop("chosen"), row.pop("rejected")
    if pair.follow_up is not None:
        return {**row, "completion": chosen}
    return {**row, "completion": chosen or rejected, "label": bool(chosen)}


def _trl_message(message: dict[str, Any]) -> dict[str, Any]:
    if thoughts := message.pop("reasoning", None):
        message["reasoning_content"] = thoughts
    for call in message.get("tool_calls", ()):
        with suppress(orjson.JSONDecodeError):  # what is no JSON stays as the model wrote it
            call["function"]["arguments"] = orjson.loads(call["function"]["arguments"])
        if call["id"] is None:
            del call["id"]
    return message


def _add_base(run: RunView, to: Path) -> None:
    """Copy the base of an adapter that only the run has, and name the copy in the adapter."""
    adapter = to / "model" / ADAPTER
    base = run.file(layout.BASE_MODEL)
    if not adapter.is_file() or base is None:
        return
    copy = to / layout.BASE_MODEL
    shutil.copytree(base, copy)
    config = json.loads(adapter.read_text(encoding="utf-8"))
    adapter.write_text(json.dumps({**config, "base_model_name_or_path": str(copy.resolve())}, indent=2), "utf-8")
