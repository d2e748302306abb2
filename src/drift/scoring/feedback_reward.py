"""Feedback reward: a classifier that learns from the store's own labels which replies users like.

It is the policy with a head of one output, trained on liked (1) and disliked (0) replies with the log-loss: the
sigmoid of a score is the probability that users like the reply. Where the policy is trained as an adapter, the reward
is one too (scoring/classifier.py). Every fifth family of conversations is held out, and
the reward is measured on their replies. A reward that is no better than chance, or than the length of a reply, is
refused.
"""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from pydantic import BaseModel, ConfigDict
from transformers import PreTrainedModel

from drift.config import FeedbackRewardSettings, LabelSettings, PolicySettings, Settings, WarmStartSettings
from drift.errors import DataError
from drift.policy.chat import encode_conversation
from drift.policy.padded import autocast
from drift.progress import report_note, report_progress
from drift.records import ChatMessage, Conversation, Counts, FeedbackLabel, Reason, stable_hash, write_jsonl
from drift.rundir import layout
from drift.scoring.classifier import classifier_of, head_in, load_start, usual_rate
from drift.statistics import Share, draw_units, share_of_draws
from drift.store import Store
from drift.turns import exclusion_reason, is_disliked, is_liked, liked_exclusion_reason, needs_media, prompt_of

ONE_IN_HELD_OUT = 5
"""One in so many families of conversations is held out."""

MIN_TURNS = 20
"""The fewest replies of each kind: liked and disliked, each among those to learn from and among those held out."""

MIN_AUROC = 0.6
"""Below it, on held-out turns, the reward is refused."""

MICRO_BATCH_TOKENS = 2048
"""Of a forward and backward pass, with padding: the memory of a training does not grow with long replies."""

QUALITY = "quality.json"
"""Beside it is `layout.TURNS`: the replies that the reward learned from, by which forgotten ones are found."""


class RewardQuality(BaseModel):
    """quality.json: what the reward is worth on held-out turns.

    `auroc`: the share of (liked, disliked) pairs of replies in which the liked one has the higher score, with its 95 %
    interval over conversations. `within`: the same share among replies to the same request, and how many such pairs
    there are. `length`: the AUROC of a reply's length in characters, as "shorter is liked" or "longer is liked",
    whichever is higher. `calibration_error`: mean distance between the predicted and the observed share of liked
    replies, over ten bins of the prediction.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    turns: int
    liked: int
    auroc: float
    auroc_low: float
    auroc_high: float
    within: float | None
    within_comparisons: int
    length: float
    calibration_error: float


class JudgedTurnSettings(Settings):
    """Which of the store's labels the reward learns from: those that make pairs, or examples for SFT."""

    min_p_dsat: float
    min_p_sat: float
    include: tuple[str, ...]
    max_per_user: int | None

    @classmethod
    def of(cls, labels: LabelSettings, warm_start: WarmStartSettings) -> "JudgedTurnSettings":
        return cls(
            min_p_dsat=labels.min_p_dsat,
            min_p_sat=warm_start.min_p_sat,
            include=labels.include,
            max_per_user=labels.max_per_user,
        )


@dataclass(frozen=True, slots=True)
class JudgedTurn:
    """A reply that its user liked or disliked. `group`: the family of its conversation, or its id if it has none.
    `place`: the conversation's id and the reply's index in it."""

    prompt: tuple[ChatMessage, ...]
    reply: ChatMessage
    tools: str | None
    liked: bool
    group: str
    place: tuple[str, int] = ("", 0)

    @property
    def held_out(self) -> bool:
        return int(stable_hash("feedback reward", self.group), 16) % ONE_IN_HELD_OUT == 0


@dataclass(frozen=True, slots=True)
class LearnedTurn:
    """A row of `layout.TURNS`."""

    conversation_id: str
    reply_index: int
    liked: bool


def fit_feedback_reward(
    out: Path,
    store: Store,
    start: Path | str,
    settings: FeedbackRewardSettings,
    policy_settings: PolicySettings,
    max_length: int,
    seed: int,
    which: JudgedTurnSettings,
) -> Counts:
    """Write the folder of a sequence classifier with one output, or of an adapter that makes one of the policy's base,
    and quality.json, and the replies that it learned from.

    Returns the figures of quality.json, the number of weights that were trained, and the number of turns that it
    learned from and of those left out by reason.
    `start`: the policy whose weights it begins with. `max_length`: of a conversation with its reply, in tokens.
    Raises DataError if there are too few turns, or if the reward is useless.
    """
    policy = load_start(start, policy_settings)
    max_length = min(max_length, policy.context_length)
    left_out: Counter[str] = Counter()
    turns = list(judged_turns(store, which, left_out))
    encoded = [(turn, encode_conversation(policy.chat, turn.prompt, turn.reply, turn.tools)) for turn in turns]
    shown = [(turn, ids) for turn, ids in encoded if not isinstance(ids, Reason)]
    left_out.update(f"dropped.{ids}" for _, ids in encoded if isinstance(ids, Reason))
    fitting = [(turn, ids) for turn, ids in shown if 0 < len(ids) <= max_length]
    learned = [pair for pair in fitting if not pair[0].held_out]
    held = [pair for pair in fitting if pair[0].held_out]
    _check_enough(store, [turn for turn, _ in fitting], left_out)
    model = classifier_of(policy, policy_settings, seed)
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    report_note(f"the feedback reward trains {trained:,} of its {model.num_parameters():,} weights")
    _train(model, learned, settings, policy_settings, seed)
    head_in(model, model.dtype)
    quality = quality_of([turn for turn, _ in held], _scores(model, [row for _, row in held]))
    _check_useful(quality)
    if warning := unknown_within(quality):
        report_note(warning)
    model.save_pretrained(str(out))
    policy.tokenizer.save_pretrained(out)
    write_jsonl(out / layout.TURNS, (LearnedTurn(*turn.place, turn.liked) for turn, _ in learned))
    (out / QUALITY).write_text(quality.model_dump_json(indent=2) + "\n", encoding="utf-8")
    figures = {name: value for name, value in quality.model_dump().items() if value is not None}
    return {
        "learned": len(learned),
        "trained_weights": trained,
        "too_long": len(shown) - len(fitting),
        **left_out,
        **figures,
    }


def judged_turns(store: Store, which: JudgedTurnSettings, left_out: Counter[str]) -> Iterator[JudgedTurn]:
    """The liked and disliked replies of the training split that pairs may be made of; `left_out` counts the others by
    reason. What must not teach a pair must not teach a reward either: a reward that learns from complaints about
    refusals, or from one user's flood, passes that on to every pair that it ranks."""
    repeats = store.repeated()
    of_user: Counter[tuple[str, bool]] = Counter()  # likes and dislikes each have a limit, as pairs and SFT have
    seen: set[str] = set()
    for conversation, labels in store.labelled("train"):
        user = conversation.writer
        group = conversation.family or conversation.conversation_id
        for label in labels:
            if not is_liked(label, which.min_p_sat) and not is_disliked(label, which.min_p_dsat):
                continue
            turn = _turn(conversation, label, labels, frozenset(which.include), group)
            if not isinstance(turn, Reason) and conversation.conversation_id in repeats:
                turn = Reason.NEAR_DUPLICATE_CONVERSATION
            if not isinstance(turn, Reason) and of_user[user, turn.liked] == which.max_per_user:
                turn = Reason.USER_CAP
            content = "" if isinstance(turn, Reason) else stable_hash(turn.prompt, turn.reply, turn.liked)
            if content in seen:
                turn = Reason.DUPLICATE_PROMPT
            if isinstance(turn, Reason):
                left_out[f"dropped.{turn}"] += 1
                continue
            seen.add(content)
            of_user[user, turn.liked] += 1
            yield turn


def _turn(
    conversation: Conversation,
    label: FeedbackLabel,
    labels: Sequence[FeedbackLabel],
    include: frozenset[str],
    group: str,
) -> JudgedTurn | Reason:
    """The judged reply; or why it must not teach."""
    if label.label == "DSAT":
        reason = exclusion_reason(conversation, label, include)
    else:
        reason = liked_exclusion_reason(conversation, label, labels, include)
    if reason:
        return reason
    if needs_media(conversation, label.reply_index):
        return Reason.NEEDS_IMAGE
    prompt = prompt_of(conversation.messages, label.reply_index)
    if isinstance(prompt, Reason):
        return prompt
    reply = conversation.messages[label.reply_index].chat()
    place = conversation.conversation_id, label.reply_index
    return JudgedTurn(prompt, reply, conversation.tools, label.label == "SAT", group, place)


def quality_of(turns: Sequence[JudgedTurn], scores: NDArray[np.float64]) -> RewardQuality:
    """What the reward is worth on these turns. `scores`: float64 [n], one for each turn, in logits."""
    liked = np.array([turn.liked for turn in turns])
    value = auroc(scores, liked)
    interval = _interval(scores, liked, [turn.group for turn in turns])
    lengths = np.array([float(len(turn.reply.content)) for turn in turns])
    wins, comparisons = within_requests(turns, scores)
    by_length = auroc(lengths, liked)
    return RewardQuality(
        turns=len(turns),
        liked=int(liked.sum()),
        auroc=round(value, 4),
        auroc_low=round(interval.low, 4),
        auroc_high=round(interval.high, 4),
        within=round(wins / comparisons, 4) if comparisons else None,
        within_comparisons=comparisons,
        length=round(max(by_length, 1 - by_length), 4),
        calibration_error=round(_calibration_error(1 / (1 + np.exp(-scores)), liked), 4),
    )


def auroc(scores: NDArray[np.float64], liked: NDArray[np.bool_]) -> float:
    """The share of (liked, disliked) pairs in which the liked one has the higher score [n]; ties count half."""
    won, pairs = _pairs_won(scores, liked)
    return won / pairs


def _pairs_won(scores: NDArray[np.float64], liked: NDArray[np.bool_]) -> tuple[float, int]:
    """(Pairs in which the liked one has the higher score [n], where a tie counts half; number of pairs)."""
    good, bad = scores[liked], np.sort(scores[~liked])
    lower, not_higher = (np.searchsorted(bad, good, side) for side in ("left", "right"))
    return float((lower + not_higher).sum()) / 2, len(good) * len(bad)


def within_requests(turns: Sequence[JudgedTurn], scores: NDArray[np.float64]) -> tuple[float, int]:
    """(Comparisons won, comparisons) between liked and disliked replies to the same request."""
    by_request: dict[str, list[int]] = {}
    for place, turn in enumerate(turns):
        by_request.setdefault(stable_hash(turn.prompt), []).append(place)
    won, count = 0.0, 0
    for places in by_request.values():
        more_won, pairs = _pairs_won(scores[places], np.array([turns[place].liked for place in places]))
        won, count = won + more_won, count + pairs
    return won, count


_Encoded = Sequence[tuple[JudgedTurn, tuple[int, ...]]]


def check_judged(store: Store, which: JudgedTurnSettings) -> None:
    """Raises DataError if the store has too few judged replies, before hours of work that end with that error."""
    left_out: Counter[str] = Counter()
    _check_enough(store, list(judged_turns(store, which, left_out)), left_out)


def _check_enough(store: Store, turns: Sequence[JudgedTurn], left_out: Counter[str]) -> None:
    """`left_out`: judged replies by the reason why they do not teach."""
    kinds = Counter((turn.held_out, turn.liked) for turn in turns)
    counts = [kinds[held_out, liked] for held_out in (False, True) for liked in (True, False)]
    if min(counts) < MIN_TURNS:
        available = "{} liked and {} disliked replies to learn from, {} and {} held out".format(*counts)
        why = ", ".join(f"{count} {reason.removeprefix('dropped.')}" for reason, count in left_out.most_common())
        remedy = "Raise labels.max_per_user" if left_out[f"dropped.{Reason.USER_CAP}"] else "Label more chats"
        raise DataError(
            f"{store.path}: too few judged replies for recipe.scorer.name: feedback ({available}; at least {MIN_TURNS} "
            f"of each{f'; left out: {why}' if why else ''}). {remedy}, or choose another scorer."
        )


def _check_useful(quality: RewardQuality) -> None:
    if quality.auroc < MIN_AUROC or quality.auroc <= quality.length:
        raise DataError(
            f"recipe.scorer.name: feedback: the reward tells liked from disliked replies with an AUROC of "
            f"{quality.auroc:.2f} on {quality.turns} held-out turns; at least {MIN_AUROC:.2f} is needed, and more than "
            f"what length alone reaches ({quality.length:.2f}). Label more chats, raise "
            "recipe.scorer.feedback.epochs or .learning_rate, or choose another scorer."
        )


def unknown_within(quality: RewardQuality) -> str:
    """A warning if too few requests drew both kinds of replies to see whether the reward ranks replies to one request;
    empty if there are enough."""
    if quality.within_comparisons >= MIN_TURNS:
        return ""
    return (
        f"Warning: the feedback reward (AUROC {quality.auroc:.2f}) was compared on {quality.within_comparisons} pairs "
        f"of a liked and a disliked reply to the same held-out request, fewer than {MIN_TURNS}: it may know which "
        "requests draw complaints, and not the better of two replies. Read some of the pairs that it chose."
    )


def _train(
    model: PreTrainedModel | PeftModel,
    rows: _Encoded,
    settings: FeedbackRewardSettings,
    policy: PolicySettings,
    seed: int,
) -> None:
    """Fit what can be trained with the log-loss, in batches of similar length, in an order that the seed draws.

    A batch passes in parts of at most MICRO_BATCH_TOKENS padded tokens, whose gradients add up to the batch's.
    """
    dtype = getattr(torch, policy.dtype)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=settings.learning_rate or usual_rate(model), weight_decay=0.0)
    rng = random.Random(f"feedback reward {seed}")
    batches = [batch for _ in range(settings.epochs) for batch in _shuffled(rows, settings.batch_size, rng)]
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 - step / max(len(batches), 1))
    model.train()
    for step, batch in enumerate(batches, 1):
        for part in _micro_batches(batch):
            inputs, mask = _padded([ids for _, ids in part], int(model.config.pad_token_id or 0))
            truth = torch.tensor([float(turn.liked) for turn, _ in part], device=model.device)
            with autocast(model.device, dtype):
                logits = model(input_ids=inputs.to(model.device), attention_mask=mask.to(model.device)).logits[:, 0]
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), truth)
            (loss * (len(part) / len(batch))).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        report_progress(step, len(batches))
    model.eval()


def _micro_batches(batch: _Encoded) -> list[_Encoded]:
    """The batch in its order, in parts of as many rows as MICRO_BATCH_TOKENS allow, at least one each."""
    rows = max(1, MICRO_BATCH_TOKENS // max(len(ids) for _, ids in batch))
    return [batch[start : start + rows] for start in range(0, len(batch), rows)]


def _shuffled(rows: _Encoded, size: int, rng: random.Random) -> Sequence[_Encoded]:
    """Batches of rows of similar length, in random order."""
    order = sorted(rows, key=lambda row: (len(row[1]), rng.random()))
    batches: list[_Encoded] = [order[start : start + size] for start in range(0, len(order), size)]
    rng.shuffle(batches)
    return batches


def _padded(rows: Sequence[tuple[int, ...]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, int64 [B, L], padded on the right."""
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return ids, mask


@torch.inference_mode()
def _scores(model: PreTrainedModel | PeftModel, rows: Sequence[tuple[int, ...]]) -> NDArray[np.float64]:
    """One row at a time: no padding can change a score. float64 [n]"""
    scores = []
    for ids in rows:
        inputs = torch.tensor([ids], device=model.device)
        scores.append(float(model(input_ids=inputs, attention_mask=torch.ones_like(inputs)).logits[0, 0]))
    return np.array(scores)


def _interval(scores: NDArray[np.float64], liked: NDArray[np.bool_], groups: Sequence[str]) -> Share:
    """The AUROC, with an interval over conversations drawn with replacement; draws of one class are left out."""
    by_group: dict[str, list[int]] = {}
    for place, group in enumerate(groups):
        by_group.setdefault(group, []).append(place)
    members = [np.array(by_group[group]) for group in sorted(by_group)]
    draws = []
    for drawn in draw_units(len(members), 500):
        places = np.concatenate([members[unit] for unit in drawn])
        if 0 < liked[places].sum() < len(places):
            draws.append(auroc(scores[places], liked[places]))
    return share_of_draws(auroc(scores, liked), np.array(draws))


def _calibration_error(predicted: NDArray[np.float64], liked: NDArray[np.bool_]) -> float:
    """Expected calibration error of probabilities [n], over ten bins of equal width."""
    bins = np.minimum((predicted * 10).astype(int), 9)
    parts = [bins == number for number in range(10) if (bins == number).any()]
    return float(sum(part.sum() * abs(predicted[part].mean() - liked[part].mean()) for part in parts) / len(liked))
