"""All personal data of a text, without overlaps, and the gates that most texts do not pass."""

from bisect import bisect
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from drift.logs.redaction import addresses, numbers, phones, secrets
from drift.logs.redaction.span import Detector, PersonalSpan
from drift.records import PersonalData

DETECTORS = (*secrets.DETECTORS, *addresses.DETECTORS, *numbers.DETECTORS, *phones.DETECTORS)
_GROUP_LENGTH = 420  # of a joint pattern: RE2 falls back to a slow engine when too many alternatives are open at once
# Where two kinds claim the same characters, the earlier one has them: the one that a stronger check speaks for.
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
    """For each text the detectors that may find something in it: one scan by RE2 for each group of them."""
    column = pa.array(texts, pa.string())
    chosen: list[tuple[Detector, ...]] = [()] * len(texts)
    for group in _GROUPS:
        passed = pc.indices_nonzero(_matches(column, _joint(group)))  # pyright: ignore[reportAttributeAccessIssue]
        some = column.take(passed) if len(group) > 1 and len(passed) else None
        for detector in group:
            own = passed if some is None else passed.filter(_matches(some, detector.gate))
            for place in own.to_pylist():
                chosen[place] += (detector,)
    return chosen


def find(text: str, detectors: Iterable[Detector] = DETECTORS) -> list[PersonalSpan]:
    """The personal data in `text`, in order."""
    return without_overlaps(span for detector in detectors for span in detector.find(text))


def without_overlaps(found: Iterable[PersonalSpan]) -> list[PersonalSpan]:
    taken: list[PersonalSpan] = []
    for span in sorted(found, key=lambda span: (_RANK[span.kind], span.start - span.end, span.start)):
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
    """Gates that begin with a fixed text are fast by themselves; the others share a scan."""
    literal = [detector for detector in DETECTORS if detector.gate[0] in "@%:Pc"]
    groups, together = [(detector,) for detector in literal], ()
    for detector in sorted((d for d in DETECTORS if d not in literal), key=lambda d: len(d.gate)):
        if together and len(_joint((*together, detector))) > _GROUP_LENGTH:
            groups.append(together)
            together = ()
        together = (*together, detector)
    return [*groups, together]


_GROUPS = _grouped()
