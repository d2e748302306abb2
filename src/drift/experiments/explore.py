"""`drift eval exploration RUN...`: several policies sample the same prompts; where do their replies lie?"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import yaml

from drift.config import PolicySettings, SamplingSettings
from drift.errors import ConfigError, DataError
from drift.evaluation.exploration.analyse import MethodResult, Sampled, analyse, default_good
from drift.evaluation.exploration.embed import embed
from drift.evaluation.exploration.plot import draw_map
from drift.evaluation.pairwise.heldout import heldout_requests
from drift.evaluation.replies.sources import policy_source
from drift.evaluation.scorers.protocol import BatchScorer, Reply
from drift.evaluation.scorers.reward_model import RewardModelScorer
from drift.evaluation.scorers.truth import TruthScorer
from drift.experiments.demo import sandbox_truth
from drift.policy.model import load_policy
from drift.policy.sampler import generate_replies
from drift.records import ChatMessage
from drift.rundir import atomic_write, load_run

Chat = tuple[ChatMessage, ...]
WIDEST = 8192


@dataclass(frozen=True, slots=True)
class ExploreSettings:
    """`reward`: oracle (the sandbox's truth), or a reward model's folder or id. `embedder`: None is the first base."""

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


@dataclass(frozen=True, slots=True)
class ExplorationSummary:
    """The definition is this project's own (see docs/evaluation.md): shares compare methods within one call."""

    methods: dict[str, MethodResult]
    prompts: int
    samples: int
    reward: str
    embedder: str
    good_from: float
    figure: str
    left_out: int
    not_comparable: tuple[str, ...] = ("the paper publishes no constants of this analysis; these are ours",)

    def json(self) -> str:
        return orjson.dumps(asdict(self), option=orjson.OPT_NON_STR_KEYS).decode()

    def headline(self) -> dict[str, Any]:
        """What is not in the table of methods."""
        return {name: value for name, value in asdict(self).items() if name != "methods"}


def explore(sources: Sequence[str], settings: ExploreSettings, out: Path) -> ExplorationSummary:
    """Sample, score, embed, analyse, draw; `out` gets exploration.json and exploration.svg.

    Raises ConfigError for fewer than two policies, or a reward that does not fit the prompts.
    """
    names = _names(sources)
    chats, scorer = _prompts_and_scorer(sources, settings)
    texts = [_sample(source, chats, settings) for source in sources]
    whole = [n for n in range(len(chats)) if all(t[n] is not None for t in texts)]
    rewards = [[scorer.score_all([Reply(chats[n], text) for text in t[n] or ()]) for n in whole] for t in texts]
    scored = [i for i in range(len(whole)) if not any(None in by_method[i] for by_method in rewards)]
    if len(scored) < 2:
        raise DataError(f"only {len(scored)} of {len(chats)} prompts could be sampled and scored for every policy.")
    kept = [whole[i] for i in scored]
    embedder = settings.embedder or _base_of(sources[0])
    sampled = Sampled(
        methods=names,
        texts=tuple(tuple(tuple(t[n] or ()) for n in kept) for t in texts),
        rewards=np.array([[by_method[i] for i in scored] for by_method in rewards], dtype=np.float64),
        embeddings=_embedded(embedder, [chats[n] for n in kept], [[t[n] or () for n in kept] for t in texts], settings),
    )
    good_from = _good_from(sampled, settings)
    found = analyse(sampled, good_from)
    out.mkdir(parents=True, exist_ok=True)
    figure = out / "exploration.svg"
    draw_map(figure, found)
    summary = ExplorationSummary(
        methods=found.results,
        prompts=len(kept),
        samples=settings.samples,
        reward=settings.reward,
        embedder=embedder,
        good_from=good_from,
        figure=str(figure),
        left_out=len(chats) - len(kept),
    )
    atomic_write(out / "exploration.json", summary.json().encode())
    return summary


def _names(sources: Sequence[str]) -> tuple[str, ...]:
    if len(sources) < 2:
        raise ConfigError("name at least two policies: shares of a region are shared among them.")
    names = [Path(source).name for source in sources]
    unique = tuple(name if names.count(name) == 1 else source for name, source in zip(names, sources, strict=True))
    if len(set(unique)) < len(unique):
        raise ConfigError(f"{', '.join(sources)}: one of them is named twice.")
    return unique


def _prompts_and_scorer(sources: Sequence[str], settings: ExploreSettings) -> tuple[list[Chat], BatchScorer]:
    if settings.reward == "oracle":
        if settings.store is not None:
            raise ConfigError(
                "--reward oracle knows the sandbox's own prompts alone; leave out --store, or name a model."
            )
        truth = sandbox_truth("test", settings.prompts)
        return list(truth.prompts), TruthScorer(truth.scorer, 0.0, settings.seed)
    heldout = heldout_requests(sources[0], settings.store, "all", settings.prompts)
    scorer = RewardModelScorer(settings.reward, settings.dtype, WIDEST)
    return [item.request.messages for item in heldout.items], scorer


def _sample(source: str, chats: Sequence[Chat], settings: ExploreSettings) -> list[tuple[str, ...] | None]:
    """For each prompt its replies; None where it does not fit the model."""
    policy = load_policy(policy_source(source), PolicySettings(dtype=settings.dtype))  # pyright: ignore[reportArgumentType]
    sampling = SamplingSettings(temperature=settings.temperature, top_p=1.0, max_new_tokens=settings.max_new_tokens)
    asked = [chat for chat in chats for _ in range(settings.samples)]
    keys = [f"explore/{settings.seed}/{n}/{s}" for n in range(len(chats)) for s in range(settings.samples)]
    replies = generate_replies(policy, asked, keys, sampling)
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


def _base_of(source: str) -> str:
    """What a run began with; of a model, itself."""
    if not (Path(source) / "run.json").is_file():
        return source
    config = yaml.safe_load(load_run(Path(source)).config_yaml)  # one value of it, whatever version wrote the rest
    return str(config["policy"]["model"])
