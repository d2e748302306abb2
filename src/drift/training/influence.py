"""Influence tracing: whose pairs moved a policy towards given replies (`drift trace RUN --to BEHAVIOUR.jsonl`).

The influence of a pair on the replies b of a behaviour is TracIn's (Pruthi et al. 2020, arXiv 2002.08484, eq. 1): with
g = grad log p(b) at the start of a training, one step on the pair's loss L changes log p(b) by rate * <-grad L, g>. The
products are not computed from one gradient per pair. They are the change of each pair's loss when the weights move
along g, so two forward passes over all pairs give them for all weights (of the adapter, where one was trained):
<grad L, g> = (L(w + e g) - L(w - e g)) / 2e. The optimizer's scaling of gradients is left out, as in TracIn.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from drift.config import PolicySettings, Settings, TrainerSettings, TrainingSettings, WarmStartSettings
from drift.errors import DataError, DriftError
from drift.policy.adapter import with_adapter
from drift.policy.chat import encode_completion, encode_prompt
from drift.policy.model import Policy, load_policy
from drift.policy.padded import PaddedRows, pad_id, padded_logps
from drift.progress import report_note
from drift.records import ChatMessage, PreferencePair, Reason, TrainedReply, read_jsonl
from drift.rundir import layout
from drift.rundir.chain import ancestors
from drift.rundir.manifest import StageRecord
from drift.rundir.view import RunView, load_run
from drift.training.batch import loss_of
from drift.training.loss import PairTensors
from drift.training.reference import PairLogps, ReferenceLogps, logps_of
from drift.training.tokens import TokenPair, tokenise, with_mismatched
from drift.training.train import balanced

STEP_NATS = 0.05
"""By how much, per token, the behaviour's log-prob changes along the step in each direction: small enough for the
change to be linear, and large against the rounding of float32."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """A reply whose origin is asked for, in TRL's prompt-completion form: texts, or lists of messages."""

    prompt: str | tuple[ChatMessage, ...]
    completion: str | tuple[ChatMessage, ...]

    @property
    def messages(self) -> tuple[ChatMessage, ...]:
        return (ChatMessage("user", self.prompt),) if isinstance(self.prompt, str) else self.prompt

    @property
    def reply(self) -> ChatMessage | None:
        """None unless the completion is one message with a text."""
        if isinstance(self.completion, str):
            return ChatMessage("assistant", self.completion) if self.completion.strip() else None
        return self.completion[0] if len(self.completion) == 1 and self.completion[0].content.strip() else None


@dataclass(frozen=True, slots=True)
class PairInfluence:
    """`influence`: nats per token by which training on the pair raised the behaviour's log-prob, to first order."""

    pair_id: str
    conversation_id: str
    user_key: str | None
    file: str
    influence: float


@dataclass(frozen=True, slots=True)
class UserInfluence:
    """`user`: the salted hash, or the conversation's id where the log names no user. `share`: of what all users with a
    positive influence add up to; 0 for the others."""

    user: str
    pairs: int
    influence: float
    share: float


@dataclass(frozen=True, slots=True)
class BehaviourTrace:
    """Users and pairs, the most influential first. `left_out`: rows of the behaviour, and pairs, that could not be
    read as tokens; and pairs of earlier generations (`generation N`) whose files are gone."""

    run: str
    rows: int
    users: tuple[UserInfluence, ...]
    pairs: tuple[PairInfluence, ...]
    left_out: dict[str, int] = field(default_factory=dict)


def trace_behaviour(run_path: Path, behaviour: Path) -> BehaviourTrace:
    """Trace the replies in the file `behaviour` to the pairs that RUN/policy was trained on, in this run and in those
    that it builds on.

    Raises DataError for a file without replies, a run that has not trained, or one whose policies are gone. What is
    gone of an earlier run leaves out its pairs, and a note says so.
    """
    rows = read_behaviour(behaviour)
    run = load_run(run_path)
    before = ancestors(run)
    trainings = [(each, file) for each in (*reversed(before), run) for file in each.learned_from]
    if not trainings or (run.kept is None and not run.learned_from):
        raise DataError(f"{run_path}: no policy was trained here yet. Finish the run, then trace it.")
    left_out = _of_missing_runs(run, before)
    pairs: list[PairInfluence] = []
    for each, file in trainings:
        try:
            pairs += _of_training(each, file, rows, left_out)
        except DriftError as error:
            if each is run:
                raise
            _leave_out(left_out, each.state.generation, _rows_of(each, file), f"{each.path}/{file}: {error}")
    pairs = [replace(pair, file=pair.file.removeprefix(f"{run.path}/")) for pair in pairs]
    pairs.sort(key=lambda pair: -pair.influence)
    return BehaviourTrace(str(run.path), len(rows), by_user(pairs), tuple(pairs), left_out)


def read_behaviour(path: Path) -> list[Behaviour]:
    """Raises DataError for a file that is missing, empty, or has a row without a reply."""
    if not path.is_file():
        raise DataError(f'{path}: no such file. Each line names a reply: {{"prompt": "...", "completion": "..."}}.')
    rows = list(read_jsonl(path, Behaviour))
    if not rows:
        raise DataError(f'{path}: has no rows. Each line names a reply: {{"prompt": "...", "completion": "..."}}.')
    for number, row in enumerate(rows, 1):
        if row.reply is None or not row.messages:
            raise DataError(f"{path}:{number}: prompt and completion need a text, or messages (one completion).")
    return rows


def by_user(pairs: Sequence[PairInfluence]) -> tuple[UserInfluence, ...]:
    """The influence of each user's pairs together, the largest first."""
    sums: dict[str, list[float]] = {}
    for pair in pairs:
        sums.setdefault(pair.user_key or f"conversation {pair.conversation_id}", []).append(pair.influence)
    upward = sum(max(sum(values), 0.0) for values in sums.values()) or 1.0
    users = [
        UserInfluence(user, len(values), sum(values), max(sum(values), 0.0) / upward) for user, values in sums.items()
    ]
    return tuple(sorted(users, key=lambda user: -user.influence))


def _of_missing_runs(run: RunView, before: Sequence[RunView]) -> dict[str, int]:
    """How many replies each earlier generation was trained on whose folder is gone."""
    left_out: dict[str, int] = {}
    there, earlier = {each.state.generation for each in before}, run.file(layout.EARLIER)
    trained = Counter(reply.generation for reply in read_jsonl(earlier, TrainedReply)) if earlier else Counter[int]()
    for generation in sorted(set(range(1, run.state.generation)) - there):
        why = "its folder is missing. Put it back where the config of the next one names it (from)"
        _leave_out(left_out, generation, trained[generation], why)
    return left_out


def _leave_out(left_out: dict[str, int], generation: int, pairs: int, why: str) -> None:
    name = f"generation {generation}"
    report_note(f"{name} is left out ({pairs} pairs): {why}")
    left_out[name] = left_out.get(name, 0) + pairs


def _rows_of(run: RunView, pairs_file: str) -> int:
    return next(int(stage.counts.get("rows") or 0) for stage in run.stages if stage.name == pairs_file)


def _of_training(
    run: RunView, pairs_file: str, behaviour: Sequence[Behaviour], left_out: dict[str, int]
) -> list[PairInfluence]:
    name = f"{pairs_file.rpartition('/')[0]}/{layout.POLICY}"
    record = next(stage for stage in run.stages if stage.name == name)
    inputs = {name: given.value for name, given in record.inputs.items()}
    settings = _settings(inputs["settings"])
    start = _input(run, record, inputs["start"])
    policy_settings = PolicySettings.model_validate(inputs["policy_settings"]).model_copy(update={"dtype": "float32"})
    loaded = load_policy(start, policy_settings)
    policy = Policy(with_adapter(loaded, policy_settings, int(inputs["seed"])), loaded.chat, loaded.policy_id)
    file = _input(run, record, inputs["pairs"])
    records, tokens = _tokenised(policy, list(read_jsonl(Path(file), PreferencePair)), settings, left_out)
    reference = ReferenceLogps.open(Path(_input(run, record, inputs["reference"])), policy, tokens)
    sums = [_sums(logps) for logps in reference.logps(reference.policies[0], tokens)]
    report_note(f"{run.path}/{record.name}: {len(tokens)} pairs")
    pair_influences = influences(policy, tokens, sums, behaviour, settings, left_out)
    return [
        PairInfluence(pair.pair_id, pair.conversation_id, pair.user_key, f"{run.path}/{inputs['pairs']}", influence)
        for pair, influence in zip(records, pair_influences, strict=True)
    ]


def influences(
    policy: Policy,
    pairs: Sequence[TokenPair],
    reference: Sequence[tuple[float, float]],
    behaviour: Sequence[Behaviour],
    settings: TrainerSettings,
    left_out: dict[str, int],
) -> list[float]:
    """Per pair, in order: the nats per token by which training on it raises the behaviour's log-prob, to first order.

    `reference`: summed log-probs of chosen and rejected under the reference, nats. The policy's weights are moved and
    put back; rounding may change their last bit.
    """
    gradient, size = _gradient(policy, behaviour, settings.max_length, left_out)
    step = STEP_NATS / size

    def moved(by: float) -> Tensor:
        with torch.no_grad():
            for weight, slope in gradient:
                weight.add_(slope, alpha=by)
        logps = logps_of(policy, pairs, settings.micro_batch_tokens, torch.float32)
        return torch.tensor([_sums(each) for each in logps])

    above = moved(step)
    below = moved(-2 * step)
    moved_by = (above - below) / (2 * step)  # <grad log p, g> of each reply, float32 [P, 2]
    with torch.no_grad():
        for weight, slope in gradient:
            weight.add_(slope, alpha=step)
    slopes = _loss_slopes((above + below) / 2, torch.tensor(reference), pairs, balanced(settings, pairs))
    rate = settings.learning_rate * settings.epochs / settings.batch_size
    return (-rate * (slopes * moved_by).sum(dim=1)).tolist()


def _sums(logps: PairLogps) -> tuple[float, float]:
    return float(logps.chosen.double().sum()), float(logps.rejected.double().sum())


def _gradient(
    policy: Policy, behaviour: Sequence[Behaviour], max_length: int, left_out: dict[str, int]
) -> tuple[list[tuple[Tensor, Tensor]], float]:
    """The trained weights, each with its gradient g of the behaviour's mean log-prob per token; and |g|^2."""
    ids: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    for row in behaviour:
        assert row.reply is not None, "read_behaviour refuses a row without a reply"
        completion = encode_completion(policy.chat, row.messages, row.reply, "stop")
        if isinstance(completion, Reason) or not completion:
            reason = completion if isinstance(completion, Reason) else Reason.EMPTY_CHOSEN
        else:
            prompt = encode_prompt(policy.chat, row.messages, max_length - len(completion))
            if not isinstance(prompt, Reason):
                ids.append((prompt.ids, completion))
                continue
            reason = prompt
        left_out[f"behaviour.{reason}"] = left_out.get(f"behaviour.{reason}", 0) + 1
    if not ids:
        raise DataError(f"none of {len(behaviour)} replies of the behaviour can be read by the policy ({left_out}).")
    weights = [weight for weight in policy.model.parameters() if weight.requires_grad]
    policy.model.eval()
    policy.model.zero_grad()
    for row in ids:
        padded = PaddedRows.of([row], pad_id(policy)).to(policy.device)
        (padded_logps(policy.model, padded, torch.float32).mean() / len(ids)).backward()
    gradient: list[tuple[Tensor, Tensor]] = [(w, w.grad.clone()) for w in weights if w.grad is not None]
    policy.model.zero_grad()
    size = sum(float(slope.double().square().sum()) for _, slope in gradient)
    if not size:
        raise DataError("the behaviour's replies have no gradient: the policy already gives them with probability 1.")
    return gradient, size


def _loss_slopes(logps: Tensor, reference: Tensor, pairs: Sequence[TokenPair], settings: TrainerSettings) -> Tensor:
    """dL/d log p of each pair's replies under the loss of the training: float32 [P, 2]; each pair counts once."""
    at = logps.clone().requires_grad_()
    lengths = torch.tensor([(float(len(pair.chosen)), float(len(pair.rejected))) for pair in pairs])
    weights = torch.tensor([pair.weight for pair in pairs])
    tensors = PairTensors(
        chosen=at[:, 0], rejected=at[:, 1], ref_chosen=reference[:, 0], ref_rejected=reference[:, 1],
        chosen_tokens=lengths[:, 0], rejected_tokens=lengths[:, 1],
        noise=torch.tensor([pair.noise for pair in pairs]),
        weights=weights, token_weights=weights / lengths[:, 0].mean().clamp(min=1.0),
    )  # fmt: skip
    loss_of(settings, tensors).loss.backward()
    assert at.grad is not None, "every loss depends on the log-probs"
    return at.grad.nan_to_num()  # a reply that is missing has no slope


def _tokenised(
    policy: Policy, pairs: Sequence[PreferencePair], settings: TrainerSettings, left_out: dict[str, int]
) -> tuple[list[PreferencePair], list[TokenPair]]:
    """The pairs that were trained on, as records and as tokens."""
    records: list[PreferencePair] = []
    tokens: list[TokenPair] = []
    for pair in pairs:
        one, counts = tokenise(policy, [pair], settings.max_prompt_length, settings.max_length)
        records += [pair] * len(one)
        tokens += one
        for name in (name for name in counts if name.startswith("dropped.")):
            left_out[name] = left_out.get(name, 0) + counts[name]
    if settings.kl_batch_size is not None:
        tokens = with_mismatched(tokens, settings.kl_batch_size, min(settings.max_length, policy.context_length))
    return records, tokens


def _settings(value: Any) -> TrainerSettings:
    kind: type[Settings] = TrainingSettings if "reference" in value else WarmStartSettings
    settings = kind.model_validate(value)
    assert isinstance(settings, TrainerSettings)
    return settings


def _input(run: RunView, record: StageRecord, value: Any) -> str:
    """A path among the stage's inputs, or a hub id. Raises DataError if what it names is gone."""
    path = run.path / str(value)
    if path.exists():
        return str(path)
    folder = str(value).split("/")[0]
    if not folder or layout.iteration_of(folder) or folder in (layout.BASE, layout.LIKED_START, layout.WARM_START):
        raise DataError(f"{path}: gone, and {record.name} was trained from it. Put it back to trace this run.")
    return str(value)
