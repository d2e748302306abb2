"""The cost model: hours of cores and GPUs, and storage traffic, out of named constants.

Models are counted in weights x tokens: a forward pass takes 2 FLOP per weight and token, a training step 6.
"""

import math
from dataclasses import dataclass

GB, HOUR = 1e9, 3600.0


@dataclass(frozen=True, slots=True)
class Constant:
    """`source`: where it was measured, or who assumed it."""

    value: float
    unit: str
    source: str


_INGEST = "measured: drift bench ingest --conversations 1000000, benchmarks/results/bench_ingest_1m.json"
_TRAFFIC = "measured: benchmarks/storage_traffic.py, benchmarks/results/storage_traffic.json"
_CPU_TRAIN = "measured on one core with AMX, 42.5 M weights: drift bench train, benchmarks/results/train_installed.json"
_CPU_SAMPLE = "measured on one core, 42.5 M weights: drift bench sample, benchmarks/results/sample.json"
_GPU = "assumed, not measured here: 40 % of an H100's 989 TFLOP/s (bfloat16)"
_REAL = "measured: drift run configs/real_logs.yaml on 581 real chats (README)"
_LENGTH = "assumed: a common length of replies in chat logs"

CORE_SECONDS = "core-seconds per conversation"
PER_BYTE = "bytes per byte of logs"
SPEED = "weights x tokens per second"
CONSTANTS = {
    "log bytes": Constant(4035.1, "bytes per conversation", _INGEST),
    "ingestion": Constant(111.8846e-6, CORE_SECONDS, _INGEST),
    "ingestion, redacted": Constant(201.4833e-6, CORE_SECONDS, _INGEST),
    "near-duplicates": Constant(173.4311e-6, CORE_SECONDS, _INGEST),
    "labels": Constant(205.1219e-6, CORE_SECONDS, _INGEST),
    "pairs": Constant(66.2194e-6, CORE_SECONDS, _INGEST),
    "ingestion: read": Constant(2.04, PER_BYTE, _TRAFFIC),
    "ingestion: written": Constant(1.449, PER_BYTE, _TRAFFIC),
    "near-duplicates: read": Constant(1.676, PER_BYTE, _TRAFFIC),
    "near-duplicates: written": Constant(0.078, PER_BYTE, _TRAFFIC),
    "labels: read": Constant(0.905, PER_BYTE, _TRAFFIC),
    "labels: written": Constant(0.019, PER_BYTE, _TRAFFIC),
    "pairs: read": Constant(1.127, PER_BYTE, _TRAFFIC),
    "pairs: written": Constant(0.247, PER_BYTE, _TRAFFIC),
    "CPU core: forward": Constant(1539 * 42_488_320 / 0.553, SPEED, _CPU_TRAIN),
    "CPU core: training": Constant(1539 * 42_488_320 / (2.115 - 0.553), SPEED, _CPU_TRAIN),
    "CPU core: sampling": Constant(155.3 * 42_488_320, SPEED, f"{_CPU_SAMPLE}; prompts included"),
    "GPU: forward": Constant(0.4 * 989e12 / 2, SPEED, _GPU),
    "GPU: training": Constant(0.4 * 989e12 / 6, SPEED, _GPU),
    "GPU: sampling, 7B": Constant(7e9 * 8000, SPEED, "assumed, not measured here: 8,000 tokens/s per H100"),
    "GPU: sampling, 70B": Constant(70e9 * 700, SPEED, "assumed, not measured here: 700 tokens/s per H100"),
    "disliked replies": Constant(124 / 581, "prompts per conversation", _REAL),
    "repairs": Constant(8 / 581, "pairs per conversation", _REAL),
    "liked replies": Constant(56 / 581, "replies per conversation", _REAL),
    "judged replies": Constant(1583 / 581, "replies per conversation", _REAL),
    "held out": Constant(0.2 / 0.8, "rows per row of the training split", "the splits of ingestion: 80 % train"),
    "prompt": Constant(700, "tokens", _LENGTH),
    "complaint": Constant(200, "tokens of the complaint and its frame", _LENGTH),
    "reply": Constant(300, "tokens", _LENGTH),
    "text": Constant(4, "bytes per token", "assumed: English text"),
}
"""Everything that a plan assumes, by name. A test compares the measured ones with their files."""


def value(name: str) -> float:
    return CONSTANTS[name].value


@dataclass(frozen=True, slots=True)
class Cost:
    """`core_hours`: of CPU cores, for data. `gpu_hours` or, on a machine without one, `cpu_hours`: for the model; None
    where the number of weights is not known. `read`, `written`: bytes of storage."""

    core_hours: float = 0.0
    gpu_hours: float | None = 0.0
    cpu_hours: float | None = 0.0
    read: float = 0.0
    written: float = 0.0

    def plus(self, other: "Cost") -> "Cost":
        return Cost(
            self.core_hours + other.core_hours,
            _sum(self.gpu_hours, other.gpu_hours),
            _sum(self.cpu_hours, other.cpu_hours),
            self.read + other.read,
            self.written + other.written,
        )

    def times(self, count: float) -> "Cost":
        gpu, cpu = (None if each is None else each * count for each in (self.gpu_hours, self.cpu_hours))
        return Cost(self.core_hours * count, gpu, cpu, self.read * count, self.written * count)


def _sum(left: float | None, right: float | None) -> float | None:
    return None if left is None or right is None else left + right


NOTHING = Cost()


def data_cost(step: str, conversations: float, redacted: bool = False) -> Cost:
    """Of `ingestion`, `near-duplicates`, `labels` or `pairs`, for conversations of the measured length."""
    seconds = value("ingestion, redacted" if redacted else step) * conversations
    logs = conversations * value("log bytes")
    read, written = (logs * value(f"{step}: {way}") for way in ("read", "written"))
    return Cost(core_hours=seconds / HOUR, read=read, written=written)


@dataclass(frozen=True, slots=True)
class ModelCosts:
    """`weights`: their number, None if it is not known; `bytes_per_weight`: on disk, as it is loaded."""

    weights: float | None
    bytes_per_weight: int = 4
    lora: bool = False
    checkpointing: bool = False

    @property
    def loaded(self) -> float:
        """Bytes to read it once."""
        return (self.weights or 0.0) * self.bytes_per_weight

    def forward(self, tokens: float) -> Cost:
        return self._cost(tokens, "forward")

    def training(self, tokens: float, checkpoints: int) -> Cost:
        """An adapter needs no gradients of the weights beneath it; gradient checkpointing computes forward twice."""
        factor = (4 if self.lora else 6) / 6 + (2 / 6 if self.checkpointing else 0)
        kept = 0.0 if self.lora else (self.weights or 0.0) * 4  # float32
        cost = self._cost(tokens * factor, "training")
        return cost.plus(Cost(written=kept * (1 + 3 * checkpoints)))  # with Adam's two states

    def sampling(self, prompt_tokens: float, reply_tokens: float) -> Cost:
        """On a GPU, the prompts are a forward pass; the speed that was measured on a core includes them."""
        if self.weights is None:
            return Cost(gpu_hours=None, cpu_hours=None)
        new = self.weights * reply_tokens
        gpu = new / _gpu_sampling(self.weights) + self.weights * prompt_tokens / value("GPU: forward")
        return Cost(0.0, gpu / HOUR, new / value("CPU core: sampling") / HOUR, read=self.loaded)

    def _cost(self, tokens: float, kind: str) -> Cost:
        if self.weights is None:
            return Cost(gpu_hours=None, cpu_hours=None)
        gpu, cpu = (self.weights * tokens / value(f"{device}: {kind}") / HOUR for device in ("GPU", "CPU core"))
        return Cost(0.0, gpu, cpu, read=self.loaded)


def _gpu_sampling(weights: float) -> float:
    """Weights x tokens per second: between the two sizes that are assumed, along the logarithm of the size."""
    small, large = value("GPU: sampling, 7B"), value("GPU: sampling, 70B")
    place = min(max(math.log10(weights / 7e9), 0.0), 1.0)
    return small ** (1 - place) * large**place


def pair_tokens(prompt: float, reply: float) -> float:
    """A prompt, which its two replies share."""
    return prompt + 2 * reply


MILLION = 1e6
_SIZES = (("1 million", 1e6), ("10 million", 1e7), ("100 million", 1e8), ("1 billion", 1e9))
_MODELS = (("7B", 7e9), ("70B", 70e9))


def cost_table() -> str:
    """The tables of docs/cluster.md, in Markdown: data stages by conversations, model stages by prompts."""
    rows = [
        "| conversations | logs | core-hours: ingest, near-duplicates, labels, pairs | together | storage traffic |"
    ]
    rows.append("|---|---|---|---|---|")
    for name, count in _SIZES:
        steps = [data_cost(step, count, redacted=step == "ingestion") for step in DATA_STEPS]
        hours = ", ".join(_short(step.core_hours) for step in steps)
        moved = sum(step.read + step.written for step in steps)
        logs = count * value("log bytes")
        total = _short(sum(step.core_hours for step in steps))
        rows.append(f"| {name} | {in_bytes(logs)} | {hours} | {total} | {in_bytes(moved)} |")
    rows += ["", "| GPU-hours of one iteration for a million prompts | sampling | reference | training | together |"]
    rows.append("|---|---|---|---|---|")
    prompt, reply = value("prompt"), value("reply")
    for name, weights in _MODELS:
        model, pairs = ModelCosts(weights, 2), MILLION * pair_tokens(prompt, reply)
        sampling = model.sampling(MILLION * (prompt + reply + value("complaint")), MILLION * reply)
        costs = (sampling, model.forward(pairs), model.training(pairs, 0))
        hours = [cost.gpu_hours or 0.0 for cost in costs]
        rows.append(f"| {name} | {' | '.join(map(_short, (*hours, sum(hours))))} |")
    return "\n".join(rows)


DATA_STEPS = ("ingestion", "near-duplicates", "labels", "pairs")


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"


def in_bytes(count: float) -> str:
    """For people: 3 MB, 4.0 GB, 22 TB."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{_short(count / size)} {unit}"
    return f"{count:.0f} B"
