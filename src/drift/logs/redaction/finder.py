"""Find all personal data in a text, without overlaps; gates skip the texts in which a detector finds nothing."""

from bisect import bisect
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from drift.logs.redaction import addresses, numbers, phones, secrets
from drift.logs.redaction.span import Detector, PersonalSpan
from drift.records import PersonalData

DETECTORS = (*secrets.DETECTORS, *addresses.DETECTORS, *numbers.DETECTORS, *phones.DETECTORS)
_MAX_PATTERN_CHARACTERS = 420  # RE2 falls back to a slow engine when a pattern has too many alternatives
# If two kinds claim the same characters, the earlier one wins: its check is stronger.
_RANK: dict[PersonalData, int] = {
    kind: rank
    for rank, kind in enumerate(
        (
            *("private_key", "api_key", "password", "email", "iban", "card"),
            *("national_id", "phone", "ip", "address", "person"),
        )
    )
}


def detectors_for(texts: Sequence[str]) -> list[tuple[Detector, ...]]:
    """For each text the detectors whose gate it passes. RE2 scans all texts once per group of detectors."""
    column = pa.array(texts, pa.string())
    chosen: list[tuple[Detector, ...]] = [()] * len(texts)
    for group in _GROUPS:
        passed = pc.indices_nonzero(_matches(column, _joint(group)))  # pyright: ignore[reportAttributeAccessIssue]
        candidates = column.take(passed) if len(group) > 1 and len(passed) else None
        for detector in group:
            own = passed if candidates is None else passed.filter(_matches(candidates, detector.gate))
            for place in own.to_pylist():
                chosen[place] += (detector,)
    return chosen


def find(text: str, detectors: Iterable[Detector] = DETECTORS) -> list[PersonalSpan]:
    """The personal data in `text`, in the order of the text."""
    return without_overlaps(span for detector in detectors for span in detector.find(text))


def without_overlaps(spans: Iterable[PersonalSpan]) -> list[PersonalSpan]:
    """The spans in the order of the text; of overlapping ones, the one of the stronger kind, then the longer."""
    taken: list[PersonalSpan] = []
    for span in sorted(spans, key=lambda span: (_RANK[span.kind], span.start - span.end, span.start)):
        place = bisect(taken, span)
        left_free = place == 0 or taken[place - 1].end <= span.start
        if left_free and (place == len(taken) or span.end <= taken[place].start):
            taken.insert(place, span)
    return taken


def _matches(texts: pa.Array, pattern: str) -> pa.Array:
    return pc.match_substring_regex(texts, pattern)  # pyright: ignore[reportAttributeAccessIssue] (made at import)


def _joint(group: Sequence[Detector]) -> str:
    return "|".join(f"(?:{detector.gate})" for detector in group)


def _grouped() -> list[tuple[Detector, ...]]:
    """Group the detectors: gates that begin with a fixed text are fast by themselves, the others share a scan."""
    literal = [detector for detector in DETECTORS if detector.gate[0] in "@%:Pc"]
    groups, together = [(detector,) for detector in literal], ()
    for detector in sorted((d for d in DETECTORS if d not in literal), key=lambda d: len(d.gate)):
        if together and len(_joint((*together, detector))) > _MAX_PATTERN_CHARACTERS:
            groups.append(together)
            together = ()
        together = (*together, detector)
    return [*groups, together]


_GROUPS = _grouped()
