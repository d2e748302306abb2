"""The steps before the first iteration: prompts, the warm start, and the held-out pairs that measure every policy."""

from dataclasses import dataclass
from pathlib import Path

from drift.config import Config, RecipeSettings, WarmStartSettings
from drift.errors import NothingToTrainOn
from drift.evaluation.evaluate import copy_evaluation, evaluate
from drift.evaluation.replies import OF_WARM_START, few_finish, what_worsened
from drift.evaluation.results import read_evaluation
from drift.generations import Parent, fingerprint_of_model, noted_base, open_parent, since_parent
from drift.pairs.defence import Defence
from drift.pairs.generation import Since
from drift.pairs.stages import (
    build_pairs,
    find_believed,
    find_follow_ups,
    find_heldout,
    find_heldout_liked,
    find_judged,
    find_liked,
    find_liked_replies,
    find_prompts,
    find_random,
    find_repairs,
)
from drift.policy.adapter import check_adapter, training_weights
from drift.policy.model import source_of, unpack
from drift.policy.sampler import sample
from drift.policy.samplers.requests import FreshReplies
from drift.policy.source import base_of_adapter, is_adapter, is_gguf
from drift.progress import report_note
from drift.records import Truth
from drift.rundir import RunDir, StageFolder, layout
from drift.store import Store
from drift.training.reference import ReferenceSettings, measure_reference
from drift.training.train import train


@dataclass(frozen=True, slots=True)
class Start:
    """What the iterations start from, equal for every recipe on the same logs. `policy`: the warm start, else the base
    (in a chain, the policy of the run before).

    `prompts`: the disliked replies whose complaints are believed. `held_out`: the files of held-out pairs
    and of held-out replies that users liked. `evaluation`: of `policy`. `learned`: there was something to train the
    warm start on.
    """

    prompts: Path
    policy: Path | str
    held_out: tuple[Path, Path]
    evaluation: Path
    learned: bool


def begin(cfg: Config, run: RunDir, store: Store, truth: Truth | None = None) -> Start:
    """Find the disliked replies, train the warm start, and evaluate what it starts from and the warm start.

    In a chain (`from`), the prompts are what came since, and training starts from the policy of the run before.
    """
    parent = open_parent(cfg)
    check_adapter(parent.policy if parent else source_of(cfg.policy.model), cfg.policy)
    since = since_parent(cfg, run, parent)
    prompts = run.stage(
        layout.PROMPTS, find_prompts, store=store, settings=cfg.labels, split="train", since=since,
        defence=Defence.of(cfg.defence, store),
    )  # fmt: skip
    heldout = run.stage(
        layout.HELDOUT, find_heldout, store=store, settings=cfg.labels, prompts=prompts, since=since,
        min_p_sat=None if cfg.warm_start.on == "repairs" else cfg.warm_start.min_p_sat,
    )  # fmt: skip
    liked = run.stage(
        layout.HELDOUT_LIKED, find_heldout_liked, store=store, min_p_sat=cfg.warm_start.min_p_sat,
        settings=cfg.labels, prompts=prompts, thinking=cfg.policy.thinking, since=since,
    )  # fmt: skip
    base = base_model(cfg, run)
    _pin_base(run, base, parent)
    start = parent.policy if parent else base
    if cfg.recipe.own_majority:
        prompts = _believed(cfg, run, start, prompts, cfg.recipe.own_majority)
    warm = _warm_start(cfg, run, store, start, prompts, since)
    held_out = _heldout_pairs(cfg, run, warm, heldout), liked

    def evaluated(folder: str, policy: Path | str) -> Path:
        return run.folder(folder).stage(
            layout.EVALUATION, evaluate, policy=policy, held_out=held_out, settings=cfg.evaluation,
            sampling=cfg.sampling, policy_settings=cfg.policy, truth=truth, seed=cfg.seed,
        )  # fmt: skip

    if parent:
        evaluated(layout.GENERATION_0, base)
    of_base = evaluated(layout.BASE, start)
    if warning := few_finish(read_evaluation(of_base).replies, cfg.sampling.max_new_tokens):
        report_note(warning)
    if warm == start:
        same = run.folder(layout.WARM_START).stage(layout.EVALUATION, copy_evaluation, evaluation=of_base)
        return Start(prompts, warm, held_out, same, learned=False)
    of_warm = evaluated(layout.WARM_START, warm)
    before, after = (read_evaluation(path).replies for path in (of_base, of_warm))
    # the stop rule starts from here
    if before and after and (cause := what_worsened(before, after, "base", OF_WARM_START)):
        report_note(f"Warning: after the warm start, {cause}")
    return Start(prompts, warm, held_out, of_warm, learned=True)


def _believed(cfg: Config, run: RunDir, start: Path | str, prompts: Path, count: int) -> Path:
    """The prompts whose complaint is not against what the policy itself says most often, out of `count` replies."""
    own = run.stage(
        layout.OWN_REPLIES, sample, policy=start, prompts=prompts, sampling=cfg.sampling,
        fresh=FreshReplies(samples=count), policy_settings=cfg.policy, iteration=0, seed=cfg.seed,
    )  # fmt: skip
    return run.stage(layout.BELIEVED, find_believed, prompts=prompts, own=own)


def recipe_prompts(cfg: Config, run: RunDir, store: Store, disliked: Path) -> Path:
    """Return the file of prompts that the recipe needs."""
    kind = cfg.recipe.rules.prompts
    if kind == "disliked":
        return disliked
    file, since = layout.PROMPT_FILES[kind], since_parent(cfg, run, open_parent(cfg))
    if kind == "liked":
        return run.stage(
            file, find_liked, store=store, split="train", min_p_sat=cfg.warm_start.min_p_sat,
            settings=cfg.labels, since=since,
        )  # fmt: skip
    if kind == "judged":
        return run.stage(
            file, find_judged, store=store, split="train", settings=cfg.labels,
            min_p_sat=cfg.warm_start.min_p_sat, since=since, defence=Defence.of(cfg.defence, store),
        )  # fmt: skip
    if kind == "followed":
        return run.stage(
            file, find_follow_ups, store=store, split="train", settings=cfg.labels, since=since,
        )  # fmt: skip
    return run.stage(
        file, find_random, store=store, prompts=disliked, split="train", seed=cfg.seed, since=since,
    )  # fmt: skip


def _pin_base(run: RunDir, base: Path | str, parent: Parent | None) -> None:
    """Note which weights the chain began with: later generations are compared with them, and adapters need them.

    An adapter that the chain began with goes on as another one; what that needs is the base of both.
    """
    whole = base_of_adapter(Path(base)) if is_adapter(base) else base
    now = fingerprint_of_model(whole, run), fingerprint_of_model(base, run) if whole != base else None
    before = (noted_base(parent.view), parent.view.state.adapter) if parent else (None, None)
    if any(then and is_now and then != is_now for then, is_now in zip(before, now, strict=True)):
        report_note(f"{base}: its files changed since the chain began; the base in the report is what they are now")
    start = parent.policy if parent else base  # whole weights of an earlier generation may be what an adapter stands on
    beneath = base_of_adapter(Path(start)) if is_adapter(start) else start
    run.pin(base=before[0] or now[0], adapter=before[1] or now[1], beneath=fingerprint_of_model(beneath, run))


def base_model(cfg: Config, run: RunDir) -> Path | str:
    """The model to start from; one in a GGUF file is unpacked into the run first."""
    source = source_of(cfg.policy.model)
    if not isinstance(source, Path) or not is_gguf(source):
        return source
    return run.stage(layout.BASE_MODEL, unpack, source=source, dtype=training_weights(cfg.policy).dtype)


def _warm_start(
    cfg: Config, run: RunDir, store: Store, start: Path | str, prompts: Path, since: Since | None
) -> Path | str:
    """The policy trained on the liked replies (SFT), the repairs (DPO) or both; `start` if there is nothing of them.

    DEVIATION: the paper's seeds are the repairs alone. Most replies that users like follow no complaint.
    """
    settings = cfg.warm_start
    if settings.on != "repairs":
        liked = run.folder(layout.LIKED_START).stage(
            layout.PAIRS, find_liked_replies, store=store, split="train", min_p_sat=settings.min_p_sat,
            settings=cfg.labels, thinking=cfg.policy.thinking, since=since,
        )  # fmt: skip
        if settings.epochs and not liked.stat().st_size:
            found_more = "" if cfg.labels.approval == "phrases" else "; labels.approval: phrases finds more of them"
            report_note(
                f"warm_start.on: {settings.on}: the training split has no liked reply that can be learned from, so "
                f"there is no SFT{found_more}"
            )
        start = _trained(cfg, run.folder(layout.LIKED_START), start, liked, settings.model_copy(update={"loss": "sft"}))
    if settings.on != "liked":
        repairs = run.folder(layout.WARM_START).stage(
            layout.PAIRS, find_repairs, prompts=prompts, thinking=cfg.policy.thinking,
            unfinished=cfg.sampling.unfinished, defence=Defence.of(cfg.defence, store),
        )  # fmt: skip
        if settings.epochs and not repairs.stat().st_size:
            report_note(
                f"warm_start.on: {settings.on}: no user of the training split liked a second reply to what they "
                "disliked, so there are no repairs to learn from"
            )
        start = _trained(cfg, run.folder(layout.WARM_START), start, repairs, settings)
    return start


def _trained(
    cfg: Config, folder: StageFolder, start: Path | str, pairs: Path, settings: WarmStartSettings
) -> Path | str:
    """The policy trained on `pairs`; `start` itself if none of them can be trained on."""
    if not pairs.stat().st_size or not settings.epochs:
        return start
    try:
        logps = folder.stage(
            layout.REFERENCE, measure_reference, policies=(start,), pairs=pairs,
            settings=ReferenceSettings.of(settings, cfg.policy),
        )  # fmt: skip
    except NothingToTrainOn as error:
        report_note(f"nothing to learn from before the first iteration: {error}")
        return start
    return folder.stage(
        layout.POLICY, train, start=start, reference=logps, pairs=pairs, settings=settings,
        policy_settings=cfg.policy, seed=cfg.seed,
    )  # fmt: skip


def _heldout_pairs(cfg: Config, run: RunDir, warm: Path | str, heldout: Path) -> Path:
    """Build the held-out pairs that measure every policy: one guided reply each, for every recipe.

    Unfinished ones stay, whatever `sampling.unfinished` says: their requests show whether policies end their replies.
    """
    folder, guided = run.folder(layout.HELDOUT_REPLIES), RecipeSettings()
    replies = folder.stage(
        layout.COMPLETIONS, sample, policy=warm, prompts=heldout, sampling=cfg.sampling,
        fresh=FreshReplies.of(guided), policy_settings=cfg.policy, iteration=0, seed=cfg.seed,
    )  # fmt: skip
    return folder.stage(
        layout.PAIRS, build_pairs, prompts=heldout, completions=replies, recipe=guided, unfinished="match",
        thinking=cfg.policy.thinking,
    )  # fmt: skip
