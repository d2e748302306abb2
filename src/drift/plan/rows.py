"""How many rows each step of a run gets: what is known, and what is assumed as long as it is not."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from drift.config import Config
from drift.generations import Parent, open_parent, open_store
from drift.logs.files.sources import find_logs
from drift.logs.ingestion.pieces import unpacked_bytes
from drift.plan.costs import CONSTANTS, in_bytes, value
from drift.records import Verdict
from drift.rundir import StageRecord, layout
from drift.store import Store

TRAIN = 0.8  # share of the training split


@dataclass(slots=True)
class Rows:
    """`log_bytes`: unpacked; `log_files`: files, zip members and databases. `conversations`: those that the run learns
    from; `stored`: of the store as it is. `labels`: of the store, by verdict; in a chain, of what came since the run
    before, and `older` those of what came before. `unlabelled`: of `conversations`, those that nobody has labelled yet;
    None: all of them, unless there are labels. `assumptions`: in sentences."""

    log_bytes: float
    log_files: int
    conversations: float
    stored: int
    labels: dict[str, int]
    kept: Mapping[str, StageRecord]
    older: Mapping[str, int] = field(default_factory=dict)
    unlabelled: float | None = None
    assumptions: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, cfg: Config, store: Store | None, kept: Mapping[str, StageRecord]) -> "Rows":
        """Raises DataError for logs that are missing, as the run would."""
        sources = find_logs(cfg.logs).sources if cfg.logs else []
        size = float(sum(map(unpacked_bytes, sources)))
        stored = store.size() if store else 0
        new = math.ceil(size / value("log bytes"))
        rows = cls(size, len(sources), stored or new, stored, store.counts().labels if store and stored else {}, kept)
        if parent := open_parent(cfg):
            rows._count_news(open_store(cfg, parent), parent, new)
        elif stored and cfg.logs:
            rows._assume(f"conversations: the {stored:,} stored ones; what the logs bring beyond them is not known yet")
        elif not stored:
            rows._assume(
                f"conversations: {in_bytes(size)} of logs, which are not read yet, at {_in_words('log bytes')}"
            )
        if empty := [source.name for source in sources if not source.size]:
            rows._assume(f"{', '.join(empty)}: size not known, counted as no conversation")
        return rows

    def _count_news(self, store: Store, parent: Parent, in_logs: int) -> None:
        """What a generation learns from: what came since `parent`, and about `in_logs` conversations of the logs."""
        came, since, whole = sum(store.news(parent.read)), Counter[str](), Counter(self.labels)
        if came:
            since.update(label.label for _, each in store.labelled(after=parent.read) for label in each)
        self.conversations, self.unlabelled = came + in_logs, in_logs + (0 if since else came)
        self.labels, self.older = dict(since), whole - since
        logs = f", and about {in_logs:,} in the logs, at {_in_words('log bytes')}, if none of them is stored yet"
        self._assume(f"conversations since {parent.view.path}: {came:,} stored{logs if in_logs else ''}")

    def judged(self) -> float:
        """Replies that the store's labels judge, without abstentions and neutral ones."""
        return self._labelled(("DSAT", "SAT"), "disliked replies", "liked replies")

    def prompts(self) -> float:
        """Disliked replies to train on."""
        kept = self._kept(layout.PROMPTS)
        return self._labelled(("DSAT",), "disliked replies") if kept is None else kept

    def liked(self) -> float:
        kept = self._kept(layout.LIKED)
        return self._labelled(("SAT",), "liked replies") if kept is None else kept

    def held_out(self, name: str, of: float, verdict: Verdict) -> float:
        """Of the other splits, in the proportion of the training split; in a chain also what was held out before."""
        kept = self._kept(name)
        return of * value("held out") + self.older.get(verdict, 0) * (1 - TRAIN) if kept is None else kept

    def repairs(self) -> float:
        kept = self._kept(f"{layout.WARM_START}/{layout.PAIRS}")
        if kept is not None:
            return kept
        self._assume(f"repairs: {_in_words('repairs')}")
        return self.conversations * value("repairs")

    def followed(self) -> float:
        self._assume(f"replies that a message follows: at most {_in_words('judged replies')}")
        return self.conversations * value("judged replies") * TRAIN

    def for_recipe(self, cfg: Config) -> float:
        """The prompts of an iteration."""
        kind = cfg.recipe.rules.prompts
        count = self._kept(layout.PROMPT_FILES[kind])
        if count is not None:
            return count
        count = {
            "disliked": self.prompts,
            "random": self.prompts,  # as many
            "liked": self.liked,
            "judged": self.judged,
            "followed": self.followed,
        }[kind]()
        if cfg.parent and kind != "followed" and self._kept(layout.PROMPTS) is None:  # of follow-ups, none are replayed
            count /= 1 - cfg.generation.replay
        return count

    def _kept(self, name: str) -> float | None:
        """The rows of a stage that is done."""
        record = self.kept.get(name)
        return None if record is None else float(record.counts.get("rows") or 0)

    def _labelled(self, verdicts: tuple[str, ...], *constants: str) -> float:
        count, unlabelled = sum(self.labels.get(verdict, 0) for verdict in verdicts), self.unlabelled
        if unlabelled is None:
            unlabelled = 0 if self.labels else self.conversations
        if self.labels:
            named = " and ".join(verdicts)
            self._assume(f"{named}: {count:,} labels in the store, of which {TRAIN:.0%} are for training")
        for name in constants if unlabelled else ():
            self._assume(f"{name}: {_in_words(name)}; yours may differ by a factor")
        return count * TRAIN + unlabelled * sum(map(value, constants))

    def _assume(self, text: str) -> None:
        if text not in self.assumptions:
            self.assumptions.append(text)


def _in_words(name: str) -> str:
    constant = CONSTANTS[name]
    return f"{constant.value:,.4g} {constant.unit} ({constant.source})"
