"""Find phone numbers: international ones, the layouts of North America, national ones with a leading zero.

Other numbers with as many digits count only after words for a phone ("call me at ...").
"""

import itertools
import re
from collections.abc import Iterator

import phonenumbers

from drift.logs.redaction.span import Detector, PersonalSpan, digits_of

_GAPS = "[ \u00a0\u2009\u2010\u2011.\\-/]"
_ALONE = r"(?<![\w+*^&@-])(?<![0-9][.,:/#=])(?<![$€£#])"
_ENDS = r"(?!\w|[-.,:/*^=%€$][0-9]|[%€$])"
_INTERNATIONAL = re.compile(
    r"(?<![\w+])(?:\+|(?<!-)(?<![0-9][ .-])00[ -]?)\(?[1-9]"
    rf"(?:[()]?{_GAPS}{{0,2}}[()]?{_GAPS}{{0,2}}[0-9]){{6,15}}(?!\w)"
)
_AMERICAN = re.compile(
    rf"{_ALONE}(?:1[-. ]?)?(?:(?:\([0-9]{{3}}\)[ .-]{{0,2}}|[0-9]{{3}}-)[0-9]{{3}}[-. ][0-9]{{4}}"
    rf"|[2-9][0-9]{{2}}([. /])[2-9][0-9]{{2}}[. -][0-9]{{4}}){_ENDS}"
)
_NATIONAL = re.compile(rf"{_ALONE}(?<![0-9][ -])\(?0[1-9][0-9]{{0,4}}\)?(?:{_GAPS}{{1,2}}[0-9]{{2,8}}){{1,5}}{_ENDS}")
_DIGITS = re.compile(rf"{_ALONE}(?:\([0-9]{{1,5}}\)[ .-]?)?[0-9](?:{_GAPS}{{0,2}}[0-9]){{6,14}}{_ENDS}")
_NAME_BEFORE = re.compile(
    r"(?:\b(?:tel|telephone|phones?|phone ?number|mobile|mob|cell|cellphone|call|calling|text|sms|whatsapp|signal"
    r"|telegram|fax|dial|reach|contact|ring|my number|handy|telefon|telefonnummer|mobil|téléphone|portable|teléfono"
    r"|móvil|celular|telefone|cellulare)\b[^\n0-9]{0,30}|(?:电话|手机|號碼|号码|電話|携帯|전화)[^\n0-9]{0,10})$",
    re.IGNORECASE,
)
# `part number 800-123-4567`: after these words, the digits are not a phone number.
_OTHER_NUMBER = re.compile(
    r"\b(?:(?:part|model|item|serial|order|invoice|case|ticket|reference|ref|catalog(?:ue)?|product|tracking|policy|claim"
    r"|batch|lot|article|patent|confirmation|flight)[ -]?(?:numbers?|no|num|nr|code|id)|sku|upc|ean|isbn)\b[^\w\n]{0,4}"
    r"(?:is[ ])?$",
    re.IGNORECASE,
)
_DATE = re.compile(
    r"(?:[0-9]{1,2}[./ -]){2}(?:[0-9]{2}){1,2}(?:\D+[0-9]{1,2})?|(?:19|20)[0-9]{2}[-./ ][0-9]{1,2}[-./ ][0-9]{1,2}.*"
    r"|(?:1[89]|20)[0-9]{2} ?[-/] ?(?:1[89]|20)[0-9]{2}|[0-9]+\.[0-9]+"
)
# Where a leading 0 stands for "within the country"
_REGIONS = ("GB", "FR", "DE", "IT", "NL", "AU", "IN", "JP", "CH", "SE", "BE", "AT", "ZA", "NG", "PK", "ID", "TR", "KR")


def find(text: str) -> Iterator[PersonalSpan]:
    for match in _INTERNATIONAL.finditer(text):
        value = _international(match[0])
        if value and not _OTHER_NUMBER.search(_before(match)):
            yield _span(match.start(), value)
    for match in _AMERICAN.finditer(text):
        if not _OTHER_NUMBER.search(_before(match)):
            yield _span(match.start(), match[0])
    for match in _NATIONAL.finditer(text):
        if _is_national(match[0]) and not _OTHER_NUMBER.search(_before(match)):
            yield _span(match.start(), match[0])
    for match in _DIGITS.finditer(text):
        before = _before(match)
        named = _NAME_BEFORE.search(before) and not _OTHER_NUMBER.search(before)
        if named and not _DATE.fullmatch(match[0]) and not _is_list(match[0]):
            yield _span(match.start(), match[0])


DETECTORS = (Detector(r"\d(?:[ \x{a0}\x{2009}\x{2010}\x{2011}().\-/]{0,3}\d){6}", find),)


def _before(match: re.Match[str]) -> str:
    return match.string[max(match.start() - 50, 0) : match.start()]


def _span(start: int, value: str) -> PersonalSpan:
    digits = digits_of(value).removeprefix("00")
    return PersonalSpan(start, start + len(value), "phone", digits[-10:] if len(digits) > 10 else digits)


def _is_list(value: str) -> bool:
    """Whether digits are numbers that a task lists ("call 1 2 3 4 5 6 7 in order"): many short groups, or equal steps.

    Single digits may also be a phone number that is spelled out, if there are as many as in one and they do not ascend.
    """
    groups = re.findall("[0-9]+", value)
    numbers = list(map(int, groups))
    steps = [after - before for before, after in itertools.pairwise(numbers)]
    if len(numbers) >= 4 and len(set(steps)) == 1 and steps[0]:
        return True
    if len(numbers) < 7 or max(map(len, groups)) > 2:
        return False
    is_spelled_out = max(numbers) < 10 and len(numbers) < 14 and min(steps) <= 0
    return not is_spelled_out


def _international(candidate: str) -> str | None:
    """The phone number at the start of the candidate: digits after it may look like its next group.

    With separators, its length must be possible in its country (numbers in examples are often not assigned). Without
    separators, it must be a valid number of that country.
    """
    value, possible = candidate, None
    while len(digits := digits_of(value)) >= 8:
        if value.count("(") == value.count(")"):
            number = _parsed(digits.removeprefix("00"), None)
            if number and phonenumbers.is_valid_number(number):
                return value
            if number and possible is None and re.search(r"[0-9][^0-9]+[0-9]", value):
                possible = value if phonenumbers.is_possible_number(number) else None
        shorter = re.match(r"(.*[0-9])[^0-9]+[0-9]+$", value, re.DOTALL)
        if shorter is None:
            break
        value = shorter[1]
    return possible


def _is_national(value: str) -> bool:
    digits = digits_of(value)
    if not 9 <= len(digits) <= 12 or value.count("(") != value.count(")") or _DATE.fullmatch(value):
        return False
    numbers = (_parsed(digits, region) for region in _REGIONS)
    return any(number and phonenumbers.is_valid_number(number) for number in numbers)


def _parsed(digits: str, region: str | None) -> phonenumbers.PhoneNumber | None:
    """Parse a number of that region; region None: the country code comes first. None if it cannot be parsed."""
    try:
        return phonenumbers.parse(digits if region else f"+{digits}", region)
    except phonenumbers.NumberParseException:
        return None
