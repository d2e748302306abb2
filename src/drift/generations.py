"""Start from an earlier run (`from`): is it fit to build on, and what did it leave for the next generation?"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from drift.config import Config, dump_config
from drift.errors import ConfigError, DataError, PrerequisiteError
from drift.pairs.defence import Defence
from drift.pairs.generation import Since
from drift.pairs.stages import find_follow_ups, find_judged, find_liked, find_prompts, list_earlier
from drift.policy.source import base_of_adapter, is_adapter
from drift.rundir import RunDir, RunView, layout, load_run, run_of
from drift.rundir.chain import descendants
from drift.store import Store, store_of


@dataclass(frozen=True, slots=True)
class Parent:
    """The run that this one starts from. `store`: the folder of its store, wherever the config says it is now."""

    view: RunView
    policy: Path
    store: Path

    @property
    def generation(self) -> int:
        return self.view.state.generation

    @property
    def read(self) -> int:
        """How far it has read its store. 0 for a run of an earlier version, which did not note it: then everything that
        it was not trained on counts as new."""
        marks = self.view.state.read
        return (marks[-1].ingested or 0) if marks else 0

    @property
    def prompts(self) -> tuple[Path, ...]:
        return tuple(file for name in layout.PROMPT_FILES.values() if (file := self.view.file(name)))

    @property
    def pairs(self) -> tuple[Path, ...]:
        """The files of pairs that its policy was trained on."""
        return tuple(self.view.path / name for name in self.view.learned_from)


def open_parent(cfg: Config) -> Parent | None:
    """The run that the config starts from; None if it starts from a model.

    Raises a DriftError of one line if the run is missing, unfinished or of another base, or if its store is gone, is
    another one, or has lost what the run read.
    """
    if cfg.parent is None:
        return None
    folder = Path(cfg.parent)
    if not layout.is_run(folder):
        raise DataError(
            f"from: {folder}: no such run. Put its folder back, name another run (`drift runs` lists them), or start a "
            "new chain: leave out --from and set policy.model to the latest policy."
        )
    view = load_run(folder)
    policy = view.file(layout.POLICY)
    if view.state.state != "done" or policy is None:
        raise DataError(
            f"from: {folder}: this run is not finished (state: {view.state.state}). Run its own command again first."
        )
    _check_same(view, "policy", "model", cfg.policy.model)
    _check_same(view, "evaluation", "split", cfg.evaluation.split)
    check_base(view, policy)
    return Parent(view, policy, _store_of(cfg, view))


def open_store(cfg: Config, parent: Parent) -> Store:
    """The chain's store, in which every generation keeps the splits that it has read."""
    return Store(parent.store, cfg.evaluation.split, parent.view.state.read)


def since_parent(cfg: Config, run: RunDir, parent: Parent | None) -> Since | None:
    """What the chain has read and learned so far; None if the run starts from a model."""
    if parent is None:
        return None
    earlier = run.stage(
        layout.EARLIER, list_earlier, generation=parent.generation, prompts=parent.prompts, pairs=parent.pairs,
        before=parent.view.file(layout.EARLIER),
    )  # fmt: skip
    return Since(earlier, parent.read, cfg.generation, cfg.seed)


def count_new_prompts(cfg: Config, store: Store, parent: Parent) -> int:
    """How many judged replies a generation would learn from that are new; nothing is kept."""
    with tempfile.TemporaryDirectory(prefix="drift-news-") as scratch:
        earlier, out = Path(scratch) / "earlier", Path(scratch) / "out"
        list_earlier(earlier, parent.generation, parent.prompts, parent.pairs, parent.view.file(layout.EARLIER))
        since, defence = Since(earlier, parent.read, cfg.generation, cfg.seed), Defence.of(cfg.defence, store)
        kind = cfg.recipe.rules.prompts
        if kind == "liked":
            return int(find_liked(out, store, "train", cfg.warm_start.min_p_sat, cfg.labels, since)["new"])
        if kind == "judged":
            return int(find_judged(out, store, "train", cfg.labels, cfg.warm_start.min_p_sat, since, defence)["new"])
        if kind == "followed":
            return int(find_follow_ups(out, store, "train", cfg.labels, since)["new"])
        # disliked; for random, as many turns are drawn as there are disliked replies
        return int(find_prompts(out, store, cfg.labels, "train", since, defence)["new"])


def _check_same(view: RunView, section: str, name: str, value: str) -> None:
    """A setting that every generation of a chain shares."""
    settings = view.settings.get(section)
    before = settings.get(name) if isinstance(settings, dict) else None
    if before is not None and before != value:
        raise ConfigError(
            f"{section}.{name}: {value}, but {view.path} has {before}, and all generations of a chain share it. "
            f"Set {section}.{name}={before}, or start a new chain without `from`."
        )


def is_finished(folder: Path, cfg: Config) -> bool:
    """Whether this generation is done. It is not redone because its store grew: that is for the next one."""
    view = _done(folder)
    return view is not None and view.config_yaml == dump_config(cfg)


def _done(folder: Path) -> RunView | None:
    """The finished run in this folder. None also for one that is damaged or without its policy."""
    try:
        view = load_run(folder) if layout.is_run(folder) else None
    except DataError:
        return None
    return view if view is not None and view.state.state == "done" and view.file(layout.POLICY) else None


def successor_of(folder: Path, cfg: Config) -> Path | None:
    """The latest run that continues from this finished one and has learned something; None if there is none.

    Raises ConfigError if `cfg` would do this run anew: what its successors name as their base, and what may be
    deployed, would be another policy.
    """
    view = _done(folder)
    built = [run.path for run in descendants(view) if run.pair_files] if view is not None else []
    if built and not is_finished(folder, cfg):
        raise ConfigError(
            f"{folder}: finished with other settings (or by another version), and {built[-1]} continues from it. Name "
            f"another folder with --out DIR, or learn from what came since with --from {built[-1]}."
        )
    return built[-1] if built else None


def check_adapters(*sources: str) -> None:
    """Of those that are runs: raises PrerequisiteError as `check_base`."""
    for run in filter(layout.is_run, map(Path, sources)):
        check_base(load_run(run), run / layout.POLICY)


def check_base(view: RunView, policy: Path, may_come_later: bool = False) -> None:
    """Raises PrerequisiteError if the run's policy is an adapter and its base is gone or has other weights than before.

    `may_come_later`: a base from the Hub that is not downloaded passes; whoever loads it has to check again.
    """
    if not is_adapter(policy):
        return
    base = base_of_adapter(policy)
    before, now, run_beneath = view.state.beneath, fingerprint_of_model(base), run_of(base)
    # a run of an earlier version did not note that it stands on the whole weights of another run
    if before is None and (run_beneath is None or run_beneath.resolve() == view.path.resolve()):
        before = noted_base(view)
    if before in (None, now) or (now is None and may_come_later):
        return
    if now is None:
        raise PrerequisiteError(
            f"{policy}: this adapter was trained on {base}, which is not on this machine, so it cannot be compared "
            f"with the files of the training. Download it: hf download {base}"
        )
    raise PrerequisiteError(
        f"{policy}: this adapter was trained on {base}, whose files have changed since: on other weights it is another "
        "model. Put the former files back, or train a new adapter on the present ones."
    )


def noted_base(view: RunView) -> str | None:
    """`RunState.base`; None if the run is of an earlier version, which noted the hash of an adapter itself there."""
    settings = view.settings.get("policy")
    model = str(settings.get("model", "")) if isinstance(settings, dict) else ""
    return None if view.state.adapter is None and is_adapter(model) else view.state.base


def fingerprint_of_model(source: Path | str, run: RunDir | None = None) -> str | None:
    """A hash of the model's files; for a hub id, the commit that is downloaded, or None if there is none."""
    if Path(source).exists():
        from drift.rundir.fingerprints import Digests

        return run.fingerprint(Path(source)) if run else Digests().content(Path(source))
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(str(source), "config.json")
    return Path(cached).parent.name if isinstance(cached, str) else None


def _store_of(cfg: Config, view: RunView) -> Path:
    store = Store(Path(cfg.store)) if cfg.store else store_of(view)
    if store is None:
        own, named = view.path / layout.STORE, view.settings.get("store")
        others = "" if named or not view.store_folders else "; those that are there are others"
        where = named or f"{own}/..."
        raise DataError(
            f"from: {view.path}: its store is gone ({where}{others}). Put it back, or name where it is: store=DIR."
        )
    if view.state.store_id not in (None, store.store_id()):
        raise DataError(
            f"{store.path}: not the store that {view.path} has read, so what is new in it is not known. Name that "
            "store, or start a new chain without `from`."
        )
    if not store.size() or store.read_up_to() < max((mark.ingested or 0 for mark in view.state.read), default=0):
        raise DataError(
            f"{store.path}: this store has lost conversations since {view.path} read it (an older copy, or deleted "
            "files). Put the latest copy back, or start a new chain without `from`."
        )
    return store.path
