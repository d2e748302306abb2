"""`drift export`: a run's model with its card, as one folder that others load, convert, serve or push."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from drift.config import parse_config
from drift.delivery.card import write_card
from drift.delivery.converter import GGUF, convert, find_converter
from drift.delivery.facts import CardFacts, read_facts_of
from drift.delivery.hub import check_repository, files_to_delete, files_to_push, open_repository, push
from drift.errors import ConfigError, DriftError
from drift.generations import check_base
from drift.policy.source import ADAPTER, adapter_settings, is_adapter
from drift.progress import report_note
from drift.report.export import check_target, export_run, finished_run
from drift.rundir import RunView, layout


@dataclass(frozen=True, slots=True)
class Delivery:
    """What an export does besides copying. `converter`: llama.cpp's script; None looks for it on the PATH. `push`: the
    repository on the Hub; with `dry_run` nothing is sent."""

    merge: bool = False
    gguf: bool = False
    converter: Path | None = None
    ollama: bool = False
    push: str | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class DeliverySummary:
    """`rows`: pairs in `pairs`. `largest_difference`: of a logit, between the adapter and the merged weights. `files`:
    those that were pushed, or would be, with their bytes. `deleted`: those that the repository had and `model` has not;
    None if the Hub could not be asked."""

    model: str
    pairs: str
    rows: int
    report: str
    card: str
    largest_difference: float | None = None
    gguf: str | None = None
    modelfile: str | None = None
    files: Mapping[str, int] | None = None
    deleted: tuple[str, ...] | None = None
    pushed: str | None = None


def deliver(run: Path, to: Path, wanted: Delivery = Delivery()) -> DeliverySummary:
    """Write `to` as `export_run` does, with `to`/model/README.md, and what else is wanted.

    Everything that can be checked is checked before anything is written. If a step fails while the folder is being
    made, what was written is deleted again. Raises ConfigError for options that do not fit, DataError as `export_run`
    does, and PrerequisiteError if the base of an adapter has changed or a tool is missing.
    """
    view = finished_run(run)
    check_target(to)
    policy = run / layout.POLICY
    adapter = is_adapter(policy)
    _check_options(wanted, adapter, policy)
    converter = find_converter(wanted.converter) if wanted.gguf else None
    check_base(view, policy, may_come_later=True)
    facts = read_facts_of(view)
    _report(facts, wanted, policy if adapter else None)
    if wanted.push and not wanted.dry_run:
        open_repository(wanted.push)
    model = to / "model"
    with _removed_on_error(to):
        exported = export_run(run, to)
        merged = _merge(view, to) if wanted.merge and adapter else None
        card = write_card(model, facts, adapter and merged is None, merged)
        if wanted.ollama:
            _write_modelfile(view, model, GGUF if converter else None)
    gguf = convert(converter, model) if converter else None
    deleted = _leftovers(wanted, model)
    return DeliverySummary(
        exported.model,
        exported.pairs,
        exported.rows,
        exported.report,
        str(card),
        largest_difference=merged.difference if merged else None,
        gguf=None if gguf is None else str(gguf),
        modelfile=str(model / "Modelfile") if wanted.ollama else None,
        files=files_to_push(model) if wanted.push else None,
        deleted=deleted,
        pushed=push(wanted.push, model, deleted or ()) if wanted.push and not wanted.dry_run else None,
    )


def _check_options(wanted: Delivery, adapter: bool, policy: Path) -> None:
    if wanted.converter is not None and not wanted.gguf:
        raise ConfigError("--converter names what --gguf runs: add --gguf, or leave it out.")
    if wanted.dry_run and not wanted.push:
        raise ConfigError("--dry-run shows what --push would send: add --push OWNER/NAME, or leave it out.")
    if adapter and not wanted.merge and (wanted.gguf or wanted.ollama):
        option = "--gguf" if wanted.gguf else "--ollama"
        raise ConfigError(f"{option} needs a whole model, and {policy} is a LoRA adapter. Add --merge.")
    if wanted.push:
        check_repository(wanted.push)
    if wanted.push and adapter and not wanted.merge and (base := _base_on_this_machine(policy)):
        raise ConfigError(
            f"--push {wanted.push}: {policy} is a LoRA adapter on {base}, a path of this machine: nobody else could "
            "load it. Add --merge."
        )


def _base_on_this_machine(policy: Path) -> str | None:
    """The path of the adapter's base; None if the base is named by its id on the Hub."""
    base = adapter_settings(policy).get("base_model_name_or_path")
    return base if isinstance(base, str) and Path(base).is_absolute() else None


def _report(facts: CardFacts, wanted: Delivery, adapter: Path | None) -> None:
    """What whoever delivers this model should know."""
    if wanted.merge and adapter is None:
        report_note("--merge: the policy is no adapter; its weights are whole already")
    elif adapter and not wanted.merge and _base_on_this_machine(adapter):
        report_note(
            "model/ is an adapter that names its base by a path of this machine: elsewhere set base_model_name_or_path "
            f"in model/{ADAPTER}, or export with --merge"
        )
    if facts.is_toy:
        report_note(f"{facts.base} is a toy: it knows only the simulated world. The export shows the path, no product")
    elif facts.simulated:
        report_note("the users of this run were simulated, as the card says: none of its figures is about real users")
    if facts.withdrawn and facts.withdrawn.in_policy:
        report_note(
            f"this policy learned from {facts.withdrawn.pairs} pairs of conversations that were forgotten since; the "
            "card says so. `drift forget` says how to train again without them"
        )


def _merge(run: RunView, to: Path):
    """Replace the adapter in `to`/model by whole weights, which need no base beside them."""
    from drift.policy.adapter import merge_adapter

    whole = to / "merged"
    dtype = parse_config(run.settings, str(run.path / layout.CONFIG)).policy.dtype
    merged = merge_adapter(to / "model", whole, dtype)
    check_base(run, run.path / layout.POLICY, may_come_later=True)  # it may have come only now, in another version
    shutil.rmtree(to / "model")
    whole.rename(to / "model")
    shutil.rmtree(to / layout.BASE_MODEL.partition("/")[0], ignore_errors=True)
    return merged


def _write_modelfile(run: RunView, model: Path, gguf: str | None) -> None:
    from drift.delivery.modelfile import write_modelfile

    cfg = parse_config(run.settings, str(run.path / layout.CONFIG))
    policy = cfg.policy.model_copy(update={"date": cfg.policy.date or run.state.date})
    if not write_modelfile(model, f"./{gguf}" if gguf else ".", policy, cfg.sampling):
        report_note(
            f"{model / 'Modelfile'} has no TEMPLATE: this chat template cannot be written as one of Ollama, which "
            "takes its own that resembles it"
        )


def _leftovers(wanted: Delivery, model: Path) -> tuple[str, ...] | None:
    """What the push deletes from the repository, named in a note. A dry run goes on without the Hub."""
    if wanted.push is None:
        return None
    try:
        files = files_to_delete(wanted.push, model)
    except DriftError as error:
        if not wanted.dry_run:
            raise
        report_note(f"which files the push would delete there is not known: {error}")
        return None
    if files:
        verb = "would delete" if wanted.dry_run else "deletes"
        report_note(f"--push {wanted.push} {verb} what model/ does not have: {', '.join(files)}")
    return files


@contextmanager
def _removed_on_error(to: Path) -> Iterator[None]:
    """Whatever goes wrong, a folder that looks like an export is one. A folder that was there before stays, empty."""
    existed = to.exists()
    try:
        yield
    except BaseException:
        for path in list(to.iterdir()) if to.exists() else ():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if to.exists() and not existed:
            to.rmdir()
        raise
