"""`drift pairs LOGS`: what lies between chat logs and pairs, in one command and in flat memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drift.config import IngestionSettings
from drift.feedback.label import LabelSummary, check_writable, label_store
from drift.logs.ingest import IngestSummary, ingest
from drift.pairs.stages import PairsSummary, write_pairs
from drift.progress import report_progress
from drift.store import Store


@dataclass(frozen=True, slots=True)
class PairsFromLogs:
    ingested: IngestSummary
    labelled: LabelSummary
    pairs: PairsSummary


def pairs_from_logs(logs: Sequence[Path], store: Store, out: Path, min_p_dsat: float) -> PairsFromLogs:
    """Ingest (redacted, exact duplicates out), note near-duplicates, label (embedded), and write the pairs.

    Each step keeps what earlier commands did, so that the same command again adds nothing.
    Raises DataError as `ingest` and `write_pairs` do, and, before anything is read, if `out` cannot be written.
    """
    check_writable("--out", out)
    ingested = ingest(logs, store, settings=IngestionSettings(near_duplicates=True), on_progress=report_progress)
    return PairsFromLogs(ingested, label_store(store), write_pairs(store, out, min_p_dsat))
