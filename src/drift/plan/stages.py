"""The stages of a run as its config asks for them, with their rows, tokens, pieces and costs."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from drift.config import (
    GUIDED_SHARE,
    Config,
    EndpointSettings,
    RecipeSettings,
    SamplingSettings,
    ScorerSettings,
    TrainerSettings,
)
from drift.evaluation.results import MAX_PROMPTS, SHOWN_PROMPTS
from drift.logs.ingestion.pieces import PIECE_BYTES
from drift.logs.near_duplicates import BANDS
from drift.plan.costs import NOTHING, Cost, ModelCosts, data_cost, pair_tokens, value
from drift.plan.rows import TRAIN, Rows
from drift.plan.weights import count_weights
from drift.policy.source import is_adapter
from drift.records import Guidance
from drift.rundir import layout
from drift.store.store import RANGE_CONVERSATIONS

ORDERS = 2  # in which a judge sees two replies


@dataclass(frozen=True, slots=True)
class Planned:
    """One stage, under its name in the run folder. `tokens`: as assumed; `at_most`: what the settings allow. `pieces`:
    in which the work is done, each of them a `piece`. `price`: of a server, in the currency of its settings."""

    name: str
    rows: float
    of: str
    cost: Cost = NOTHING
    tokens: float = 0.0
    at_most: float = 0.0
    pieces: int | None = None
    piece: str = ""
    price: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class TokenLengths:
    """Tokens, within the limits of the settings. `limit`: of a prompt; `prompt`: without guidance."""

    limit: float
    prompt: float
    reply: float

    @classmethod
    def of(cls, sampling: SamplingSettings) -> "TokenLengths":
        limit = sampling.max_prompt_length
        return cls(limit, min(value("prompt"), limit), min(value("reply"), sampling.max_new_tokens))

    def guided(self, guidance: Guidance, share: float = 1.0) -> float:
        """Mean length of prompts of which this share is guided; a hint does not show the disliked reply."""
        shown = value("complaint") + (0 if guidance == "hint" else value("reply"))
        return (1 - share) * self.prompt + share * min(self.prompt + shown, self.limit)

    def fresh(self, recipe: RecipeSettings) -> float:
        """Mean length of the prompts that an iteration samples from. At most this, where a trial sets the share."""
        if not recipe.rules.guides:
            return self.prompt
        return self.guided(recipe.guidance, GUIDED_SHARE if recipe.guided_share == "auto" else recipe.guided_share)

    @property
    def pair(self) -> float:
        return pair_tokens(self.prompt, self.reply)

    @property
    def one(self) -> float:
        """A prompt with one reply."""
        return self.prompt + self.reply


class Stages:
    """`planned` yields every stage of a run, in order."""

    def __init__(self, cfg: Config, rows: Rows, model: ModelCosts) -> None:
        self.cfg = cfg
        self.rows = rows
        self.model = model
        self.lengths = TokenLengths.of(cfg.sampling)

    def planned(self) -> Iterator[Planned]:
        yield from self._data()
        yield from self._start()
        for k in range(1, self.cfg.iterations + 1):
            yield from self._iteration(k)
        yield Planned(layout.POLICY, 1, "model", Cost(read=self.model.loaded, written=self.model.loaded))

    def _data(self) -> Iterator[Planned]:
        cfg, rows, count = self.cfg, self.rows, self.rows.conversations
        if cfg.logs:
            new = math.ceil(rows.log_bytes / value("log bytes"))
            cost = data_cost("ingestion", new, cfg.ingestion.redact)
            pieces = max(math.ceil(rows.log_bytes / PIECE_BYTES), 1)
            notes = ["every command reads the logs; what is stored already adds nothing"] if rows.stored else []
            if pieces > 1:
                notes.append("single model calls (tracing, APIs) take about as many pieces again, to stitch them")
            yield Planned(
                "ingestion", new, "conversations", cost, pieces=pieces, piece="32 MB of logs", note="; ".join(notes)
            )
            if cfg.ingestion.near_duplicates:
                cost = data_cost("near-duplicates", count)
                yield Planned("near-duplicates", count, "conversations", cost, pieces=BANDS, piece="band of signatures")
        ranges = max(math.ceil(count / RANGE_CONVERSATIONS), 1)
        yield self._labels(count, ranges)
        yield Planned(layout.LABELS, count * value("judged replies"), "labels", data_cost("labels", 0))
        for name, prompts, share in self._prompts():
            cost = data_cost("pairs", count * share)
            yield Planned(name, prompts, "prompts", cost, pieces=ranges, piece="8,192 conversations")

    def _labels(self, count: float, ranges: int) -> Planned:
        labels = self.cfg.labels
        cost = data_cost("labels", count if labels.labeller != "judge" else 0)
        piece = {"pieces": ranges, "piece": "8,192 conversations"}
        if labels.labeller == "embedded":
            return Planned("labels", count, "conversations", cost, **piece)
        note = f"`drift label --dry-run` prints requests and price of {labels.labeller}; they are not in this plan"
        return Planned("labels", count, "conversations", cost, note=note)

    def _prompts(self) -> Iterator[tuple[str, float, float]]:
        """Files of prompts, their rows, and the share of the store that is read for them."""
        rows, prompts, kind = self.rows, self.rows.prompts(), self.cfg.recipe.rules.prompts
        yield layout.PROMPTS, prompts, TRAIN
        yield layout.HELDOUT, rows.held_out(layout.HELDOUT, prompts, "DSAT"), 1 - TRAIN
        yield layout.HELDOUT_LIKED, rows.held_out(layout.HELDOUT_LIKED, rows.liked(), "SAT"), 1 - TRAIN
        if kind != "disliked":
            yield layout.PROMPT_FILES[kind], rows.for_recipe(self.cfg), TRAIN

    def _start(self) -> Iterator[Planned]:
        cfg, rows = self.cfg, self.rows
        if cfg.recipe.own_majority:
            yield self._sampling(layout.OWN_REPLIES, rows.prompts() * cfg.recipe.own_majority, self.lengths.prompt)
            yield Planned(layout.BELIEVED, rows.prompts(), "prompts", note="at most")
        trained = bool(cfg.warm_start.epochs)
        if cfg.warm_start.on != "repairs":
            liked = rows.liked()
            yield from self._trained(layout.LIKED_START, liked, "replies", self.lengths.one, cfg.warm_start, trained)
        if cfg.warm_start.on != "liked":
            pair = self.lengths.pair
            yield from self._trained(layout.WARM_START, rows.repairs(), "pairs", pair, cfg.warm_start, trained)
        held_out = rows.held_out(layout.HELDOUT, rows.prompts(), "DSAT")
        guided = self.lengths.guided(RecipeSettings().guidance)  # for every recipe
        yield self._sampling(f"{layout.HELDOUT_REPLIES}/{layout.COMPLETIONS}", held_out, guided)
        yield self._pairs(f"{layout.HELDOUT_REPLIES}/{layout.PAIRS}", held_out)
        for folder in (*((layout.GENERATION_0,) if cfg.parent else ()), layout.BASE):
            yield self._evaluation(f"{folder}/{layout.EVALUATION}", held_out)
        of_warm = f"{layout.WARM_START}/{layout.EVALUATION}"
        yield self._evaluation(of_warm, held_out) if trained else Planned(of_warm, 1, "file", note="that of base/")

    def _iteration(self, k: int) -> Iterator[Planned]:
        cfg, folder, rules, scorer = self.cfg, layout.iteration(k), self.cfg.recipe.rules, self.cfg.recipe.scorer
        prompts = self.rows.for_recipe(cfg)
        replies = prompts * cfg.recipe.samples if rules.samples else 0
        if scorer is not None and scorer.name == "feedback":
            every = scorer.feedback.retrain_every
            if k == 1 or (every and (k - 1) % every == 0):
                yield self._feedback_reward(f"{folder}/{layout.FEEDBACK_REWARD}", scorer)
        if cfg.recipe.guided_share == "auto":
            yield from self._guidance(layout.guidance(k), min(cfg.recipe.guidance_prompts, prompts))
        if rules.samples and not (rules.once and k > 1):
            yield self._sampling(f"{folder}/{layout.COMPLETIONS}", replies, self.lengths.fresh(cfg.recipe))
        if scorer is not None and rules.samples:
            yield self._scores(f"{folder}/{layout.SCORES}", replies, scorer)
        if cfg.recipe.retire_below is not None:
            yield self._forward(f"{folder}/{layout.UNLEARNED}", prompts, "prompts", self.lengths.one, 2)
        pairs = float(cfg.recipe.pairs or (prompts if rules.ranks else replies or prompts))
        length = self.lengths.pair if rules.makes_pairs else self.lengths.one
        yield from self._trained(folder, pairs, "pairs" if rules.makes_pairs else "replies", length, cfg.training, True)
        held_out = self.rows.held_out(layout.HELDOUT, self.rows.prompts(), "DSAT")
        yield self._evaluation(f"{folder}/{layout.EVALUATION}", held_out)
        if cfg.stop.rule == "gate":
            yield Planned(f"{folder}/{layout.GATE}", 0, "items", note="`drift gate` is not in this plan")

    def _guidance(self, folder: str, prompts: float) -> Iterator[Planned]:
        """Each of these prompts is answered guided and unguided."""
        recipe = self.cfg.recipe
        yield Planned(f"{folder}/{layout.TRIAL_PROMPTS}", prompts, "prompts")
        yield self._sampling(f"{folder}/{layout.COMPLETIONS}", 2 * prompts, self.lengths.guided(recipe.guidance, 0.5))
        yield self._scores(f"{folder}/{layout.SCORES}", 2 * prompts, recipe.scorer or ScorerSettings(name="hindsight"))
        yield Planned(f"{folder}/{layout.GUIDANCE}", 1, "file")

    def _trained(
        self, folder: str, rows: float, of: str, length: float, settings: TrainerSettings, trains: bool
    ) -> Iterator[Planned]:
        """The pairs, their reference log-probs and the training; only the pairs if nothing trains."""
        yield self._pairs(f"{folder}/{layout.PAIRS}", rows, of)
        if not trains:
            return
        policies = 3 if settings.diagnostics else 1
        yield self._forward(f"{folder}/{layout.REFERENCE}", rows, of, length, policies)
        steps = math.ceil(rows / settings.batch_size) * settings.epochs
        tokens = rows * length * settings.epochs
        checkpoints = max(steps - 1, 0) // settings.save_steps if settings.save_steps else 0
        yield Planned(
            f"{folder}/{layout.POLICY}", rows, of, self.model.training(tokens, checkpoints), tokens,
            rows * 2 * settings.max_length * settings.epochs, steps, f"step of {settings.batch_size} {of}",
        )  # fmt: skip

    def _pairs(self, name: str, rows: float, of: str = "pairs") -> Planned:
        written = rows * self.lengths.pair * value("text")
        return Planned(name, rows, of, Cost(written=written), note="at most: repeated and empty replies make none")

    def _sampling(self, name: str, replies: float, prompt: float) -> Planned:
        sampling, reply = self.cfg.sampling, self.lengths.reply
        tokens, at_most = replies * (prompt + reply), replies * (sampling.max_prompt_length + sampling.max_new_tokens)
        written = Cost(written=replies * reply * value("text"))
        if sampling.backend == "endpoint" and sampling.endpoint is not None:
            asked = _price(sampling.endpoint, replies * prompt, replies * reply)
            note = f"requests to {sampling.endpoint.base_url}"
            return Planned(name, replies, "replies", written, tokens, at_most, price=asked, note=note)
        batch = max(sampling.batch_tokens // (sampling.max_prompt_length + sampling.max_new_tokens), 1)
        cost = self.model.sampling(replies * prompt, replies * reply).plus(written)
        return Planned(
            name, replies, "replies", cost, tokens, at_most, math.ceil(replies / batch), f"batch of {batch} or more"
        )

    def _forward(self, name: str, rows: float, of: str, length: float, policies: int = 1) -> Planned:
        tokens, at_most = rows * length * policies, rows * 2 * self.cfg.training.max_length * policies
        cost = self.model.forward(tokens)
        return Planned(name, rows, of, cost, tokens, at_most)

    def _scores(self, name: str, replies: float, scorer: ScorerSettings) -> Planned:
        if scorer.name == "judge" and scorer.endpoint is not None:
            asked = ORDERS * replies
            price = _price(scorer.endpoint, asked * self.lengths.pair, asked)
            note = f"{asked:,.0f} requests to {scorer.endpoint.base_url}"
            return Planned(name, replies, "replies", tokens=asked * self.lengths.pair, price=price, note=note)
        if scorer.name in ("oracle", "noisy_oracle"):
            return Planned(name, replies, "replies")
        tokens, at_most = replies * self.lengths.one, replies * self.cfg.evaluation.max_length
        return Planned(name, replies, "replies", self._scoring_model(scorer).forward(tokens), tokens, at_most)

    def _scoring_model(self, scorer: ScorerSettings) -> ModelCosts:
        return ModelCosts(count_weights(scorer.model)[0]) if scorer.model else self.model

    def _feedback_reward(self, name: str, scorer: ScorerSettings) -> Planned:
        settings = scorer.feedback  # it learns from all labels of the store
        rows = self.rows.judged() + TRAIN * sum(self.rows.older.get(verdict, 0) for verdict in ("DSAT", "SAT"))
        tokens = rows * self.lengths.one * settings.epochs
        steps = math.ceil(rows / settings.batch_size) * settings.epochs
        lora = self.cfg.policy.lora is not None or is_adapter(scorer.model or self.cfg.policy.model)
        model = replace(self._scoring_model(scorer), lora=lora, checkpointing=False)  # it never computes forward twice
        cost = model.training(tokens, 0)
        at_most = rows * self.cfg.evaluation.max_length * settings.epochs
        return Planned(name, rows, "replies", cost, tokens, at_most, steps, f"step of {settings.batch_size} replies")

    def _evaluation(self, name: str, held_out: float) -> Planned:
        """Log-probs of held-out pairs of two splits and of liked replies, and replies to some of these prompts."""
        settings, lengths = self.cfg.evaluation, self.lengths
        pairs = min(2.0 * settings.max_prompts, held_out)
        liked = min(float(settings.max_prompts), self.rows.held_out(layout.HELDOUT_LIKED, self.rows.liked(), "SAT"))
        replies = min(float(MAX_PROMPTS), pairs) + min(float(SHOWN_PROMPTS), pairs)
        forward = pairs * lengths.pair + liked * lengths.one
        tokens = forward + replies * lengths.one
        limit = self.cfg.sampling.max_prompt_length + self.cfg.sampling.max_new_tokens
        at_most = (2 * pairs + liked) * settings.max_length + replies * limit
        sampled = self.model.sampling(replies * lengths.prompt, replies * lengths.reply)
        return Planned(name, pairs, "pairs", self.model.forward(forward).plus(sampled), tokens, at_most)


def _price(endpoint: EndpointSettings, tokens_in: float, tokens_out: float) -> float | None:
    """In the currency of the settings; None if they name no price."""
    prices = (endpoint.price_per_million_input, endpoint.price_per_million_output)
    if None in prices:
        return None
    return (tokens_in * (prices[0] or 0) + tokens_out * (prices[1] or 0)) / 1e6
