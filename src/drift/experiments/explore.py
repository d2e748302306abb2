"""`drift eval exploration`: several policies answer the same prompts. Which regions do their replies cover?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import yaml

from drift.config import SamplingSettings
from drift.disk import make_folder
from drift.endpoint.cost import CostEstimate
from drift.endpoint.options import UNPRICED, JudgePricing, endpoint_settings
from drift.errors import ConfigError, DataError
from drift.evals.exploration.analyse import Sampled, analyse, default_good
from drift.evals.exploration.embed import embed
from drift.evals.exploration.plot import draw_map
from drift.evals.exploration.results import ExplorationSummary
from drift.evals.pairwise.heldout import heldout_requests
from drift.evals.replies import assumed_text, policy_settings, policy_source
from drift.experiments.simulation import sandbox_truth
from drift.policy.chat.adapting import Messages
from drift.policy.model import load_policy
from drift.policy.sampler import generate_replies
from drift.progress import report_note
from drift.records import BatchScorer, ReplyToScore, stable_hash
from drift.report import write_report
from drift.rundir import atomic_write, layout, load_run
from drift.sandbox.world import world_hash
from drift.scoring.judges import JudgeScorer
from drift.scoring.reward_model import RewardModelScorer
from drift.scoring.scorers import TruthScorer

REWARD_MODEL_MAX_TOKENS = 8192
OWN_CONSTANTS = "the paper does not publish the constants of this analysis; this project chose its own"
OWN_JUDGE = "the reward is a judge's preference over the logs' own reply, with this project's own judge prompt"


@dataclass(frozen=True, slots=True)
class ExploreSettings:
    """`reward`: `oracle` (the sandbox's truth), a judge (URL#MODEL, with `pricing`), or a reward model's folder or id.
    `embedder`: the model whose hidden states place the replies; None is the base of the first policy. `store`: where
    the prompts come from, if not from a run. `good_from`: a reply counts as good from this reward on; None: from 1 for
    the oracle, else from the upper quarter of all rewards.
    """

    reward: str = "oracle"
    embedder: str | None = None
    store: Path | None = None
    prompts: int = 64
    samples: int = 8
    temperature: float = 1.0
    max_new_tokens: int = 256
    dtype: str = "float32"
    seed: int = 0
    good_from: float | None = None
    pricing: JudgePricing = UNPRICED

    @property
    def by_judge(self) -> bool:
        return self.reward.startswith(("http://", "https://"))


@dataclass(frozen=True, slots=True)
class ExplorationPrompts:
    """The prompts, the scorer of their replies and, for a judge, the logs' own reply to each prompt."""

    chats: tuple[Messages, ...]
    against: tuple[str | None, ...]
    scorer: BatchScorer

    def to_score(self, n: int, texts: Sequence[str]) -> list[ReplyToScore]:
        return [ReplyToScore(self.chats[n], text, against=self.against[n]) for text in texts]


def explore(
    sources: Sequence[str], settings: ExploreSettings, out: Path, on_note: Callable[[str], None] = report_note
) -> ExplorationSummary:
    """Sample, score, embed, analyse, draw.

    `out` gets exploration.json and exploration.svg, and keeps replies and judgements, so that the same command resumes.
    Each run among the sources gets exploration.json and a new report. Raises ConfigError for fewer than two policies
    or a reward that does not fit the prompts, DataError if fewer than two prompts are left.
    """
    methods = _methods(sources)
    hashes = {run: load_run(Path(run)).policy_hash for run in filter(_is_run, sources)}  # before anything is sampled
    make_folder(out, "an exploration")
    prompts = _prompts(sources, settings, out)
    replies = [_sample(source, prompts.chats, settings, out) for source in methods.values()]
    sampled = [n for n in range(len(prompts.chats)) if all(of_policy[n] is not None for of_policy in replies)]
    _require_two(len(sampled), len(prompts.chats))

    to_score = [reply for of_policy in replies for n in sampled for reply in prompts.to_score(n, of_policy[n] or ())]
    if isinstance(prompts.scorer, JudgeScorer):
        on_note(prompts.scorer.estimate(to_score).line())
    rewards = np.array(prompts.scorer.score_all(to_score), dtype=np.float64).reshape(len(replies), len(sampled), -1)
    is_scored = np.asarray(~np.isnan(rewards).any(axis=(0, 2)))  # a prompt needs every reward of every policy
    scored = [n for n, keep in zip(sampled, is_scored, strict=True) if keep]
    _require_two(len(scored), len(prompts.chats))

    texts = tuple(tuple(of_policy[n] or () for n in scored) for of_policy in replies)
    embedder = settings.embedder or _base_of(sources[0])
    samples = Sampled(
        methods=tuple(methods),
        texts=texts,
        rewards=rewards[:, is_scored],
        embeddings=_embeddings(embedder, [prompts.chats[n] for n in scored], texts, settings),
    )
    left_out = {"prompt_too_long": len(prompts.chats) - len(sampled), "unscored": len(sampled) - len(scored)}
    summary = _summary(samples, settings, embedder, left_out, out)
    atomic_write(out / layout.EXPLORATION, summary.json().encode())
    for run, policy_hash in hashes.items():
        atomic_write(Path(run) / layout.EXPLORATION, replace(summary, policy_hash=policy_hash).json().encode())
        write_report(Path(run))
    return summary


def estimate_exploration(sources: Sequence[str], settings: ExploreSettings, out: Path) -> CostEstimate:
    """The most that the judge can cost: all replies differ and have the maximum length.

    Raises ConfigError if the reward does not come from a judge.
    """
    if not settings.by_judge:
        raise ConfigError("--dry-run estimates what a judge costs; name one: --judge URL#MODEL.")
    prompts = _prompts(sources, settings, out)
    # equal replies are judged once, so each assumed reply begins with its policy and sample
    beginnings = [f"{name} {sample} " for name in _methods(sources) for sample in range(settings.samples)]
    texts = [beginning + assumed_text("a reply", settings.max_new_tokens) for beginning in beginnings]
    assert isinstance(prompts.scorer, JudgeScorer)
    return prompts.scorer.estimate([reply for n in range(len(prompts.chats)) for reply in prompts.to_score(n, texts)])


def _require_two(left: int, prompts: int) -> None:
    if left < 2:
        raise DataError(
            f"only {left} of {prompts} prompts could be sampled and scored for every policy; at least 2 are needed. "
            "Use more or shorter prompts."
        )


def _summary(
    samples: Sampled, settings: ExploreSettings, embedder: str, left_out: Mapping[str, int], out: Path
) -> ExplorationSummary:
    good_from = settings.good_from
    if good_from is None:
        good_from = 1.0 if settings.reward == "oracle" else default_good(samples.rewards)
    exploration = analyse(samples, good_from)
    figure = out / "exploration.svg"
    draw_map(figure, exploration)
    points = np.concatenate([exploration.maps[0], exploration.weights[..., None]], axis=-1).round(4)  # (x, y, weight)
    return ExplorationSummary(
        methods=exploration.results,
        prompts=samples.rewards.shape[1],
        samples=settings.samples,
        reward=settings.reward,
        embedder=embedder,
        good_from=good_from,
        figure=str(figure),
        left_out=sum(left_out.values()),
        left_out_by={reason: count for reason, count in left_out.items() if count},
        not_comparable=(OWN_CONSTANTS, *((OWN_JUDGE,) if settings.by_judge else ())),
        points={
            name: tuple(map(tuple, of_method.reshape(-1, 3).tolist()))
            for name, of_method in zip(samples.methods, points, strict=True)
        },
    )


def _methods(sources: Sequence[str]) -> dict[str, str]:
    """Policies by name. A single run is compared with its base."""
    if len(sources) == 1 and _is_run(sources[0]):
        return {"base": _base_of(sources[0]), Path(sources[0]).absolute().name: sources[0]}
    if len(sources) < 2:
        raise ConfigError("name a run, or at least two policies: exploration compares policies.")
    names = [Path(source).name for source in sources]
    unique = [name if names.count(name) == 1 else source for name, source in zip(names, sources, strict=True)]
    if len(set(unique)) < len(unique):
        raise ConfigError(f"{', '.join(sources)}: a policy is named twice; name each once.")
    return dict(zip(unique, sources, strict=True))


def _prompts(sources: Sequence[str], settings: ExploreSettings, out: Path) -> ExplorationPrompts:
    if settings.reward == "oracle":
        if settings.store is not None:
            raise ConfigError(
                "--reward oracle scores only the sandbox's own prompts; remove --store, or name another reward."
            )
        for run in filter(_is_run, sources):
            _check_world(run)
        truth = sandbox_truth("test", settings.prompts)
        scorer = TruthScorer(truth.scorer, 0.0, settings.seed)
        return ExplorationPrompts(truth.prompts, (None,) * len(truth.prompts), scorer)
    judge = JudgeScorer(endpoint_settings(settings.reward, settings.pricing), out) if settings.by_judge else None
    items = heldout_requests(sources, settings.store, "all", settings.prompts).items
    requests = [item.request for item in items if judge is None or item.request.logged is not None]
    chats = tuple(request.messages for request in requests)
    if judge is not None:
        return ExplorationPrompts(chats, tuple(request.logged for request in requests), judge)
    scorer = RewardModelScorer(settings.reward, settings.dtype, REWARD_MODEL_MAX_TOKENS)
    return ExplorationPrompts(chats, (None,) * len(chats), scorer)


def _check_world(run: str) -> None:
    """Raises ConfigError if the run's chats are not those of the first toy world: figures about that world's requests
    would stand in its report."""
    stages = {stage.name: stage for stage in load_run(Path(run)).stages}
    deployment = stages.get(layout.DEPLOYMENT)
    world = deployment.inputs.get("world") if deployment else None
    if world is None or world.value != world_hash():
        raise ConfigError(
            f"{run}: --reward oracle asks and judges requests of the first toy world, and this run learned from other "
            "chats. Name who judges its own held-out requests: --judge URL#MODEL, or --reward FOLDER of a reward model."
        )


def _sample(
    source: str, chats: Sequence[Messages], settings: ExploreSettings, out: Path
) -> list[tuple[str, ...] | None]:
    """The replies to each prompt; None if the prompt is too long. `out` keeps them, so that a call resumes."""
    policy = load_policy(policy_source(source), policy_settings(source, settings.dtype))
    sampling = SamplingSettings(temperature=settings.temperature, top_p=1.0, max_new_tokens=settings.max_new_tokens)
    repeated = [chat for chat in chats for _ in range(settings.samples)]
    keys = [f"explore/{settings.seed}/{n}/{s}" for n in range(len(chats)) for s in range(settings.samples)]
    folder = out / f"samples-{policy.answers_id}-{stable_hash(sampling.model_dump(), chats)[:8]}"
    replies = generate_replies(policy, repeated, keys, sampling, folder)
    groups = [replies[i : i + settings.samples] for i in range(0, len(replies), settings.samples)]
    return [None if None in group else tuple(reply.text for reply in group if reply) for group in groups]


def _embeddings(
    embedder: str, chats: Sequence[Messages], texts: Sequence[Sequence[Sequence[str]]], settings: ExploreSettings
) -> np.ndarray:
    """float32 [methods, prompts, samples, dimensions]."""
    prompts = [chat for _ in texts for chat in chats for _ in range(settings.samples)]
    flat = embed(
        embedder, prompts, [text for of_policy in texts for group in of_policy for text in group], settings.dtype
    )
    return flat.reshape(len(texts), len(chats), settings.samples, -1)


def _is_run(source: str) -> bool:
    return layout.is_run(Path(source))


def _base_of(source: str) -> str:
    """The base policy of a run. A model is its own base."""
    if not _is_run(source):
        return source
    # not load_config: the config of an earlier version may not validate today
    config = yaml.safe_load(load_run(Path(source)).config_yaml)
    return str(config["policy"]["model"])
