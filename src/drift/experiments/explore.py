"""`drift eval exploration RUN...`: several policies sample the same prompts; where do their replies lie?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from drift.config import PolicySettings, SamplingSettings
from drift.endpoint.cost import CostEstimate
from drift.endpoint.options import UNPRICED, JudgePricing, endpoint_settings
from drift.errors import ConfigError, DataError
from drift.evals.exploration.analyse import Sampled, analyse, default_good
from drift.evals.exploration.embed import embed
from drift.evals.exploration.plot import draw_map
from drift.evals.exploration.results import ExplorationSummary
from drift.evals.pairwise.heldout import heldout_requests
from drift.evals.replies import assumed_text, policy_source
from drift.experiments.simulation import sandbox_truth
from drift.policy.model import load_policy
from drift.policy.sampler import generate_replies
from drift.progress import report_note
from drift.records import BatchScorer, ChatMessage, ReplyToScore, stable_hash
from drift.report import write_report
from drift.rundir import atomic_write, layout, load_run
from drift.scoring.judges import JudgeScorer
from drift.scoring.reward_model import RewardModelScorer
from drift.scoring.scorers import TruthScorer

Chat = tuple[ChatMessage, ...]
WIDEST = 8192
OWN_CONSTANTS = "the paper publishes no constants of this analysis; these are ours"
OWN_JUDGE = "the reward is a judge's preference over the logs' own reply, asked for in this project's words"


@dataclass(frozen=True, slots=True)
class ExploreSettings:
    """`reward`: oracle (the sandbox's truth), a judge (URL#MODEL, `pricing`), or a reward model's folder or id.
    `embedder`: None is the first base.
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
class Asked:
    """The prompts; where a judge compares, the logs' own reply to each; and who scores."""

    chats: tuple[Chat, ...]
    against: tuple[str | None, ...]
    scorer: BatchScorer

    def replies(self, n: int, texts: Sequence[str]) -> list[ReplyToScore]:
        return [ReplyToScore(self.chats[n], text, against=self.against[n]) for text in texts]


def explore(
    sources: Sequence[str], settings: ExploreSettings, out: Path, tell: Callable[[str], None] = report_note
) -> ExplorationSummary:
    """Sample, score, embed, analyse, draw. `out` gets exploration.json and exploration.svg, and keeps replies and
    judgements; every run that took part gets exploration.json and a new report.

    Raises ConfigError for fewer than two policies, or a reward that does not fit the prompts.
    """
    methods = _methods(sources)
    asked = _asked(sources, settings, out)
    texts = [_sample(source, asked.chats, settings, out) for source in methods.values()]
    whole = [n for n in range(len(asked.chats)) if all(t[n] is not None for t in texts)]
    _require_two(len(whole), len(asked.chats))
    flat = [reply for t in texts for n in whole for reply in asked.replies(n, t[n] or ())]
    if isinstance(asked.scorer, JudgeScorer):
        tell(asked.scorer.estimate(flat).line())
    rewards = np.array(asked.scorer.score_all(flat), dtype=np.float64).reshape(len(texts), len(whole), -1)
    scored = np.asarray(~np.isnan(rewards).any(axis=(0, 2)))
    kept = [n for n, known in zip(whole, scored, strict=True) if known]
    _require_two(len(kept), len(asked.chats))
    of_kept = tuple(tuple(t[n] or () for n in kept) for t in texts)
    embedder = settings.embedder or _base_of(sources[0])
    sampled = Sampled(
        methods=tuple(methods),
        texts=of_kept,
        rewards=rewards[:, scored],
        embeddings=_embedded(embedder, [asked.chats[n] for n in kept], of_kept, settings),
    )
    left_out = {"prompt_too_long": len(asked.chats) - len(whole), "unscored": len(whole) - len(kept)}
    summary = _summarised(sampled, settings, embedder, left_out, out)
    atomic_write(out / layout.EXPLORATION, summary.json().encode())
    for run in filter(_is_run, sources):
        atomic_write(Path(run) / layout.EXPLORATION, summary.json().encode())
        write_report(Path(run))
    return summary


def estimate_exploration(sources: Sequence[str], settings: ExploreSettings, out: Path) -> CostEstimate:
    """What the judge would be asked at most, if every reply were as long as it may be and differed from the others.

    Raises ConfigError if the reward is not a judge's.
    """
    if not settings.by_judge:
        raise ConfigError("--dry-run tells what a judge would take; name one: --judge URL#MODEL.")
    asked = _asked(sources, settings, out)
    ways = [f"{name} {sample} " for name in _methods(sources) for sample in range(settings.samples)]
    texts = [way + assumed_text("a reply", settings.max_new_tokens) for way in ways]
    assert isinstance(asked.scorer, JudgeScorer)
    return asked.scorer.estimate([reply for n in range(len(asked.chats)) for reply in asked.replies(n, texts)])


def _require_two(left: int, prompts: int) -> None:
    if left < 2:
        raise DataError(f"only {left} of {prompts} prompts could be sampled and scored for every policy.")


def _summarised(
    sampled: Sampled, settings: ExploreSettings, embedder: str, left_out: Mapping[str, int], out: Path
) -> ExplorationSummary:
    good_from = _good_from(sampled, settings)
    found = analyse(sampled, good_from)
    out.mkdir(parents=True, exist_ok=True)
    figure = out / "exploration.svg"
    draw_map(figure, found)
    places = np.concatenate([found.maps[0], found.weights[..., None]], axis=-1).round(4)
    return ExplorationSummary(
        methods=found.results,
        prompts=sampled.rewards.shape[1],
        samples=settings.samples,
        reward=settings.reward,
        embedder=embedder,
        good_from=good_from,
        figure=str(figure),
        left_out=sum(left_out.values()),
        left_out_by={reason: count for reason, count in left_out.items() if count},
        not_comparable=(OWN_CONSTANTS, *((OWN_JUDGE,) if settings.by_judge else ())),
        points={
            name: tuple(map(tuple, place.reshape(-1, 3).tolist()))
            for name, place in zip(sampled.methods, places, strict=True)
        },
    )


def _methods(sources: Sequence[str]) -> dict[str, str]:
    """Policies by name. One run alone is set against its base."""
    if len(sources) == 1 and _is_run(sources[0]):
        return {"base": _base_of(sources[0]), Path(sources[0]).absolute().name: sources[0]}
    if len(sources) < 2:
        raise ConfigError("name a run, or at least two policies: shares of a region are shared among them.")
    names = [Path(source).name for source in sources]
    unique = [name if names.count(name) == 1 else source for name, source in zip(names, sources, strict=True)]
    if len(set(unique)) < len(unique):
        raise ConfigError(f"{', '.join(sources)}: one of them is named twice.")
    return dict(zip(unique, sources, strict=True))


def _asked(sources: Sequence[str], settings: ExploreSettings, out: Path) -> Asked:
    if settings.reward == "oracle":
        if settings.store is not None:
            raise ConfigError(
                "--reward oracle knows the sandbox's own prompts alone; leave out --store, or name a model or a judge."
            )
        truth = sandbox_truth("test", settings.prompts)
        scorer = TruthScorer(truth.scorer, 0.0, settings.seed)
        return Asked(truth.prompts, (None,) * len(truth.prompts), scorer)
    judge = JudgeScorer(endpoint_settings(settings.reward, settings.pricing), out) if settings.by_judge else None
    items = heldout_requests(sources[0], settings.store, "all", settings.prompts).items
    requests = [item.request for item in items if judge is None or item.request.logged is not None]
    chats = tuple(request.messages for request in requests)
    if judge is not None:
        return Asked(chats, tuple(request.logged for request in requests), judge)
    scorer = RewardModelScorer(settings.reward, settings.dtype, WIDEST)
    return Asked(chats, (None,) * len(chats), scorer)


def _sample(source: str, chats: Sequence[Chat], settings: ExploreSettings, out: Path) -> list[tuple[str, ...] | None]:
    """For each prompt its replies; None where it does not fit the model. What a killed command made is in `out`."""
    policy = load_policy(policy_source(source), PolicySettings(dtype=settings.dtype))  # pyright: ignore[reportArgumentType]
    sampling = SamplingSettings(temperature=settings.temperature, top_p=1.0, max_new_tokens=settings.max_new_tokens)
    asked = [chat for chat in chats for _ in range(settings.samples)]
    keys = [f"explore/{settings.seed}/{n}/{s}" for n in range(len(chats)) for s in range(settings.samples)]
    kept = out / f"samples-{policy.policy_id}-{stable_hash(sampling.model_dump(), chats)[:8]}"
    replies = generate_replies(policy, asked, keys, sampling, kept)
    groups = [replies[i : i + settings.samples] for i in range(0, len(replies), settings.samples)]
    return [None if None in group else tuple(reply.text for reply in group if reply) for group in groups]


def _embedded(
    embedder: str, chats: Sequence[Chat], texts: Sequence[Sequence[Sequence[str]]], settings: ExploreSettings
) -> np.ndarray:
    """float32 [M, N, S, D]."""
    prompts = [chat for _ in texts for chat in chats for _ in range(settings.samples)]
    flat = embed(embedder, prompts, [text for t in texts for group in t for text in group], settings.dtype)
    return flat.reshape(len(texts), len(chats), settings.samples, -1)


def _good_from(sampled: Sampled, settings: ExploreSettings) -> float:
    if settings.good_from is not None:
        return settings.good_from
    return 1.0 if settings.reward == "oracle" else default_good(sampled.rewards)


def _is_run(source: str) -> bool:
    return layout.is_run(Path(source))


def _base_of(source: str) -> str:
    """What a run began with; of a model, itself."""
    if not _is_run(source):
        return source
    config = yaml.safe_load(load_run(Path(source)).config_yaml)  # one value of it, whatever version wrote the rest
    return str(config["policy"]["model"])
