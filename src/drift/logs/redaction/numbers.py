"""Find numbers with check digits: payment cards, IBANs, national ids (US, UK, CA, MX, BR, IN, CN, DE, FR, ES, IT).

Ids without a check digit need a layout that only they have; plain digits count only after the name of the id.
"""

import re
from collections.abc import Callable, Iterator
from datetime import date
from itertools import chain
from string import ascii_uppercase

from stdnum import iban, luhn
from stdnum.br import cpf
from stdnum.cn import ric
from stdnum.de import idnr
from stdnum.es import dni, nie
from stdnum.fr import nir
from stdnum.in_ import aadhaar
from stdnum.it import codicefiscale
from stdnum.mx import curp

from drift.logs.redaction.span import Detector, PersonalSpan, digits_of

_GAP = "[ \u00a0\u2009.-]?"
_ALONE = r"(?<![\w.+/#-])"
_ENDS = r"(?![\w]|[-/.,][0-9])"
# A comma or a slash with the month of expiry may follow a card, as in CSV; a decimal point may not.
_CARD_ENDS = r"(?!\w|[-.][0-9]|/(?=[0-9])(?!(?:0[1-9]|1[0-2])(?:[0-9]{2})?(?![0-9])))"
_CARDS = (
    re.compile(rf"{_ALONE}[2-6](?:[ \u00a0-]?[0-9]){{12,18}}{_CARD_ENDS}", re.ASCII),
    # A card among other numbers: in the groups in which cards print it
    re.compile(
        rf"{_ALONE}(?:[2-6][0-9]{{12,18}}|[2-6][0-9]{{3}}([ -])[0-9]{{4}}\1[0-9]{{4}}\1[0-9]{{4}}"
        rf"|3[0-9]{{3}}([ -])[0-9]{{6}}\2[0-9]{{4,5}}){_CARD_ENDS}",
        re.ASCII,
    ),
)
# First digits and lengths of Visa, Mastercard, American Express, Diners, Discover, JCB, UnionPay, Mir
_ISSUER = re.compile(
    r"4(?:.{15}|.{18})|(?:5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720)\d*(?<=^.{16})|3[47].{13}|3(?:0[0-5]|[689].).{11}"
    r"|(?:6011|64[4-9]|65)\d*(?<=^.{16})|35(?:2[89]|[3-8].).{12}|62.{14,17}|220[0-4].{12}"
)
SHORTEST_IBAN = 15
_AS_DIGITS = {ord(letter): str(int(letter, 36)) for letter in ascii_uppercase}
"""As in the check digits of an IBAN: A is 10, Z is 35."""
_IBAN = re.compile(rf"(?<![\w])[A-Z]{{2}}[0-9]{{2}}(?:{_GAP}[A-Z0-9]){{11,30}}(?![A-Za-z0-9])", re.ASCII)

_NAMED = r"[^\w\n]{0,6}(?:(?:is|number|no|nr|num|ist|nummer|es|est|é|:|#)[^\w\n]{0,4}){0,3}"
Check = Callable[[str], bool]


def _ssn(text: str) -> bool:
    """A US number by its areas. Includes the well-known examples, which stdnum rejects."""
    number = digits_of(text)
    return len(number) == 9 and not (
        number[:3] in ("000", "666") or number[0] == "9" or number[3:5] == "00" or number[5:] == "0000"
    )


def _ric(text: str) -> bool:
    """A Chinese number by birth date and check digit: stdnum's list of counties is incomplete."""
    try:
        date(int(text[6:10]), int(text[10:12]), int(text[12:14]))
    except ValueError:
        return False
    return ric.calc_check_digit(text) == text[-1]


def _sin(text: str) -> bool:
    return luhn.is_valid(digits_of(text))


_IDS: tuple[tuple[re.Pattern[str], Check], ...] = tuple(
    (re.compile(rf"{before}({pattern}){_ENDS}", re.ASCII), check)
    for before, pattern, check in (
        (_ALONE, r"[0-9]{3}-[0-9]{2}-[0-9]{4}", _ssn),
        (rf"\b(?:SSN|ssn|[Ss]ocial [Ss]ecurity){_NAMED}", r"[0-9]{3}[ -]?[0-9]{2}[ -]?[0-9]{4}", _ssn),
        (
            _ALONE,
            r"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]",
            bool,
        ),
        (_ALONE, r"[1-79][0-9]{2}-[0-9]{3}-[0-9]{3}", _sin),
        (rf"\b(?:SIN|[Ss]ocial [Ii]nsurance){_NAMED}", r"[0-9]{3}[ -]?[0-9]{3}[ -]?[0-9]{3}", _sin),
        (_ALONE, r"[A-Z]{4}[0-9]{6}[HM][A-Z]{5}[A-Z0-9][0-9]", curp.is_valid),
        (_ALONE, r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}", cpf.is_valid),
        (rf"\b(?:CPF|cpf){_NAMED}", r"[0-9]{11}", cpf.is_valid),
        (_ALONE, r"[2-9][0-9]{3}[ -][0-9]{4}[ -][0-9]{4}(?![ -][0-9]{4})", aadhaar.is_valid),
        (rf"\b[Aa]adhaar{_NAMED}", r"[2-9][0-9]{11}", aadhaar.is_valid),
        (rf"\b(?:PAN|pan card){_NAMED}", r"[A-Z]{3}P[A-Z][0-9]{4}[A-Z]", bool),
        (r"(?<![A-Za-z0-9.])", r"[1-9][0-9]{16}[0-9X]", _ric),
        (_ALONE, r"[0-9]{2} [0-9]{3} [0-9]{3} [0-9]{3}", idnr.is_valid),
        (
            rf"\b(?:[Ss]teuer-?ID|[Ii]d[Nn]r\.?|[Ss]teuer(?:identifikations)?nummer|[Tt]ax ID){_NAMED}",
            r"[1-9][0-9]{10}",
            idnr.is_valid,
        ),
        (_ALONE, r"[12] ?[0-9]{2} ?[0-9]{2} ?[0-9][0-9AB] ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}", nir.is_valid),
        (_ALONE, r"[0-9]{8}-?[A-HJ-NP-TV-Z]", dni.is_valid),
        (_ALONE, r"[XYZ]-?[0-9]{7}-?[A-HJ-NP-TV-Z]", nie.is_valid),
        (_ALONE, r"[A-Z]{6}[0-9LMNP-V]{2}[A-EHLMPRST][0-9LMNP-V]{2}[A-Z][0-9LMNP-V]{3}[A-Z]", codicefiscale.is_valid),
    )
)


def cards(text: str) -> Iterator[PersonalSpan]:
    for match in chain.from_iterable(pattern.finditer(text) for pattern in _CARDS):
        number = digits_of(match[0])
        if _ISSUER.fullmatch(number) and luhn.is_valid(number) and len(set(number)) > 1:
            yield PersonalSpan(*match.span(), "card", number)


def ibans(text: str) -> Iterator[PersonalSpan]:
    for match in _IBAN.finditer(text):
        if value := _iban_in(match[0]):
            yield PersonalSpan(match.start(), match.start() + len(value), "iban", iban.compact(value))


def ids(text: str) -> Iterator[PersonalSpan]:
    for pattern, check in _IDS:
        for match in pattern.finditer(text):
            if check(match[1]):
                yield PersonalSpan(*match.span(1), "national_id", re.sub(r"\W", "", match[1]))


DETECTORS = (
    Detector(r"\d(?:[ \x{a0}-]?\d){12}", cards),
    Detector(r"[A-Z]{2}\d{2}[ \x{a0}\x{2009}.-]?[A-Z0-9]{4}[ \x{a0}\x{2009}.-]?[A-Z0-9]{4}", ibans),
    Detector(
        r"\d(?:[ .-]?\d){8}|[A-Z]{2} ?\d{2} ?\d{2} ?\d{2} ?[A-D]|[A-Z]{3}P[A-Z]\d{4}|[A-Z]{4}\d{6}"
        r"|[A-Z]{6}[0-9L-V]{2}[A-T][0-9L-V]{2}[A-Z]|\d{7}-?[A-Z]|[XYZ]-?\d{7}|\d{5}[0-9AB ]{2,4}\d{3} ?\d{3}",
        ids,
    ),
)


def _is_iban(number: str) -> bool:
    """By length and check digits, without the rules of the country for account numbers. The check digits come first,
    because stdnum also looks up the country, which is slow for megabytes of `DE89 3704 DE89 3704`."""
    digits = (number[4:] + number[:4]).translate(_AS_DIGITS)
    return int(digits) % 97 == 1 and iban.is_valid(number, check_country=False)


def _iban_in(candidate: str) -> str | None:
    """The IBAN at the start of the candidate: a word after it may look like its next group."""
    places = [place for place, character in enumerate(candidate) if character.isalnum()]
    number = "".join(candidate[place] for place in places)
    for length in range(len(number), SHORTEST_IBAN - 1, -1):
        if _is_iban(number[:length]):
            return candidate[: places[length - 1] + 1]
    return None
