"""Find e-mail addresses, IP addresses, and street addresses as far as patterns can recognise them."""

import re
from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import unquote

from drift.logs.redaction.span import Detector, PersonalSpan

_EMAIL = re.compile(
    r"(?<![\w.%+-])[\w%+-][\w.%+-]{0,63}@(?:[^\W_](?:[\w-]{0,62}[^\W_])?\.){1,8}(?:xn--[\w-]{2,59}|[^\W\d_]{2,24})(?![\w@])"
)
_IN_URL = re.compile(
    r"(?:(?<![\w.+%-])|(?<=%[0-9A-Fa-f]{2}))(?:[\w.+-]|%2[Bb]){1,64}%40"
    r"(?:[^\W_](?:[\w-]{0,62}[^\W_])?\.){1,8}(?:xn--[\w-]{2,59}|[^\W\d_]{2,24})(?![\w@])"
)
_FILES = {
    *(
        "png",
        "jpg",
        "jpeg",
        "gif",
        "svg",
        "webp",
        "ico",
        "css",
        "scss",
        "js",
        "ts",
        "jsx",
        "tsx",
        "json",
        "html",
        "pdf",
    ),
    *("mp4", "py"),
}
# `.py` is also the domain of Paraguay, where names are registered only below these.
_PARAGUAY = re.compile(r"\.(?:com|coop|edu|gov|mil|net|org|una)\.py$", re.IGNORECASE)

_IPV4 = re.compile(r"(?<![\w.-])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w-]|\.[0-9])", re.ASCII)
# Text before a version number: `v1.2.3.4`, `version 1.2.3.4`, `Chrome/1.2.3.4`, `==1.2.3.4`, `§ 1.2.3.4`
_VERSION_BEFORE = re.compile(
    r"(?:\b(?:v|ver|version|versions|release|build|firmware|update|upgrade|revision|rev|section|chapter|sec|clause|table"
    r"|figure|eq|exercise|problem|oid|assemblyversion|fileversion|openssl|dotnet|net|sdk|jdk|jre|java|chrome|chromium|edge"
    r"|firefox|windows|driver|nuget|bios|plugin)\b[\s.:=\"'(]{0,4}|[A-Za-z]/|[=~<>]=\s?|\^|§\s?)$",
    re.IGNORECASE,
)
_FILE_AFTER = re.compile(r"\.(?:tar|t?gz|bz2|xz|zip|7z|rar|deb|rpm|exe|msi|dll|so|jar|whl|nupkg|dmg|apk|iso)\b")
_HEADING_AFTER = re.compile(r"\.?[ \t]+[A-Z][a-z]")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}(?![\w:]|\.[0-9])", re.IGNORECASE | re.ASCII)

_HOUSE = r"(?<![\w./$€£#-])(?:(?<![0-9],)|(?![0-9]{3}\b))[0-9]{1,5}(?:-[0-9]{1,5})?[A-Za-z]?"
_NAME = r"(?:(?:[NSEW]|NE|NW|SE|SW|St|Saint|Mt|Dr|[0-9]{1,3}(?:st|nd|rd|th)|[A-Z][\w'’]{1,20})\.?[ ]){1,4}"
_SUFFIX = (
    r"(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Parkway|Pkwy|Highway|Hwy|Terrace|Crescent"
    r"|Circle|Cir|Close|Gardens|Grove|Square|Sq|Place|Pl|Trail|Way|Loop|Mews)"
)
_UNIT = r"(?:,? (?:Apt|Apartment|Unit|Suite|Ste|Floor|Fl|Flat|Room|Rm|#)\.? ?#?\w{1,6})?"
_TOWN = (
    r"(?P<town>,? (?:[A-Z][\w'’.-]{1,20} ?){1,3},? [A-Z]{2},? [0-9]{5}(?:-[0-9]{4})?"
    r"|,? (?:[A-Z][\w'’.-]{1,20} ?){1,3},? [A-Z]{1,2}[0-9][0-9A-Z]? [0-9][A-Z]{2})?"
)
_POSTCODE = r"(?P<town>,? [0-9]{4,5} [A-ZÄÖÜÉ][\w'’-]{2,25})?"
_KIND = r"stra(?:ß|ss)e|str\.|weg|allee|gasse|platz|damm|ufer"
_KIND_APART = r"Stra(?:ß|ss)e|Str\.|Weg|Allee|Gasse|Platz|Damm|Ufer"
_FRENCH_KIND = r"(?:[Rr]ue|[Aa]venue|av\.|[Bb]oulevard|bd|chemin|allée|impasse|quai|place|cours)"
_SOUTHERN_KIND = r"(?:Calle|C/|Avenida|Avda\.|Plaza|Paseo|Carrera|Rua|Travessa|Via|Viale|Piazza|Corso|Largo)"
_ENGLISH = re.compile(
    rf"(?P<house>{_HOUSE}) (?P<name>{_NAME})(?P<suffix>{_SUFFIX})\b\.?(?: (?:[NS][EW]|[NSEW])\b)?{_UNIT}{_TOWN}"
)
_GERMAN = re.compile(
    rf"\b(?:[A-ZÄÖÜ][\wäöüß-]{{2,30}}(?P<joined>{_KIND})"
    rf"|(?:[A-ZÄÖÜ][\wäöüß-]{{1,25}}[ -]){{1,3}}(?P<apart>{_KIND_APART}))"
    rf"[ ][0-9]{{1,4}}(?:[ ]?[a-z])?\b(?!%|[.,][0-9]){_POSTCODE}"
)
_FRENCH = re.compile(
    rf"(?<![\w./-])[0-9]{{1,4}}(?: ?(?:bis|ter))?,? (?P<kind>{_FRENCH_KIND}) "
    r"(?P<of>(?:(?:de|du|des|la|le|les|l'|d'|sainte?)[ -]?){0,3})"
    rf"[A-ZÉÈ][\w'’-]{{1,25}}(?:[ -][A-ZÉÈ][\w'’-]{{1,25}}){{0,3}}{_POSTCODE}"
)
_SOUTHERN = re.compile(
    rf"\b(?P<kind>{_SOUTHERN_KIND}) (?:(?:de|del|da|do|dos|das|della|dei|di|la|las|los|el|San|Santa|São)[ ]){{0,3}}"
    r"(?P<name>[A-ZÁÉÍÓÚ][\w'’.-]{1,25}(?: (?:e |y |de |da )?[A-ZÁÉÍÓÚ][\w'’.-]{1,25}){0,3}),? (?:n[º°.]? ?)?"
    rf"[0-9]{{1,4}}\b(?!%|[.,:][0-9]){_POSTCODE}"
)

# What an English match may be instead, if no town with a postcode follows. `New Street` is a street, but `New Way` is
# not: suffixes that are ordinary words need a better name.
_HEADING = re.compile(r"(?:Best|Top|Easy|Simple|Ways|Different|Quick|Main Points|Good|Other)\b")
_ADJECTIVES = {"The", "Great", "New", "Key", "Free"}
_PLAIN_WORDS = {"Drive", "Court", "Circle", "Close", "Square", "Place", "Trail", "Way", "Loop", "Gardens"}
_THING = re.compile(
    r"\b(?:(?:Google|Hard|Disk|Flash|Thumb|USB|Pen|Tape|External|State) Drive"
    r"|(?:Supreme|High|District|Federal|Superior|Circuit|Tennis|Basketball|Food) Court)$"
)
_BRAND = re.compile(r"(?<!\bMc)(?<!\bMac)(?<!\bDe)(?<!\bLa)(?<!\bLe)(?<!\bDu)(?<=[a-z])[A-Z]")  # GitHub, JavaScript
_YEAR = re.compile(r"(?:1[89]|20)[0-9]{2}")
_BEFORE_YEAR = re.compile(
    r"\b(?:in|since|until|till|during|the|early|mid|late|spring|summer|autumn|fall|winter|january|february|march|april"
    r"|may|june|july|august|september|october|november|december)[ ,]{1,2}$",
    re.IGNORECASE,
)
_COUNTED = re.compile(
    r"\b(?:figure|fig\.|table|chapter|section|part|step|page|level|lesson|episode|season|version|question|item|act"
    r"|scene|volume|week|day|phase|stage|round|grade|windows)[ ]$",
    re.IGNORECASE,
)
_OWN_NUMBER = re.compile(r"(?:\b[A-Z]{2,}|[a-z,] [A-Z]\w+) $")  # `HTML 5`, `with Python 3`
_LIVING = re.compile(r"\b(?:wohn\w*|adresse|anschrift|address|liv(?:e|es|ing))\b[^\n]{0,25}$", re.IGNORECASE)
_SENTENCE_BEFORE = re.compile(r"(?:^|[.!?]\s+|\n)[ \t>*-]*$")
_LINE_AFTER = re.compile(r"[ \t]*(?:\n|,|$)")


def emails(text: str) -> Iterator[PersonalSpan]:
    for match in _EMAIL.finditer(text):
        local, _, domain = match[0].rpartition("@")
        is_git = local == "git" and text.startswith(":", match.end())
        if not _is_file(domain) and not is_git:
            yield PersonalSpan(*match.span(), "email", match[0].lower())


def emails_in_urls(text: str) -> Iterator[PersonalSpan]:
    for match in _IN_URL.finditer(text):
        if not _is_file(match[0]):
            yield PersonalSpan(*match.span(), "email", unquote(match[0]).lower())


def _is_file(domain: str) -> bool:
    return domain.rpartition(".")[2].lower() in _FILES and not _PARAGUAY.search(domain)


def ipv4(text: str) -> Iterator[PersonalSpan]:
    for match in _IPV4.finditer(text):
        octets = [int(octet) for octet in match[0].split(".")]
        if max(octets) > 255 or max(octets) < 10 or not _is_public(match[0]):
            continue  # four single digits: a version, a section or a public DNS server
        before = text[max(match.start() - 20, 0) : match.start()]
        begins_line = not before.rpartition("\n")[2].strip(" \t#*-")
        is_heading = begins_line and max(octets) < 30 and _HEADING_AFTER.match(text, match.end())
        if not is_heading and not _VERSION_BEFORE.search(before) and not _FILE_AFTER.match(text, match.end()):
            yield PersonalSpan(*match.span(), "ip", match[0])


def ipv6(text: str) -> Iterator[PersonalSpan]:
    for match in _IPV6.finditer(text):
        groups = [group for group in match[0].split(":") if group]
        # `a::b` is more often a name in a program than an address.
        is_address = len(groups) > 3 or (len(groups) > 1 and any(len(g) > 2 and re.search("[0-9]", g) for g in groups))
        if is_address and _is_public(match[0]):
            yield PersonalSpan(*match.span(), "ip", ip_address(match[0]).compressed)


def _is_public(value: str) -> bool:
    """False for what is not an address, and for ranges that identify nobody (private, documentation, ...)."""
    try:
        address = ip_address(value)
    except ValueError:
        return False
    return address.is_global and not address.is_multicast


def streets(text: str) -> Iterator[PersonalSpan]:
    for pattern, is_address in _STREETS:
        for match in pattern.finditer(text):
            if match["town"] or is_address(match):
                yield PersonalSpan(*match.span(), "address", " ".join(match[0].lower().split()))


def _before(match: re.Match[str]) -> str:
    return match.string[max(match.start() - 40, 0) : match.start()]


def _is_english(match: re.Match[str]) -> bool:
    name, suffix, before = match["name"].strip(), match["suffix"], _before(match)
    if _HEADING.search(name) or _BRAND.search(name) or _THING.search(f"{name} {suffix}") or _COUNTED.search(before):
        return False
    if _YEAR.fullmatch(match["house"]) and _BEFORE_YEAR.search(before):
        return False
    return suffix not in _PLAIN_WORDS or (name not in _ADJECTIVES and not _OWN_NUMBER.search(before))


def _is_german(match: re.Match[str]) -> bool:
    """German words for workplaces and approaches end like street names: they need a town or a word for living."""
    kind = match["joined"] or match["apart"]
    return kind.lower() not in ("weg", "platz") or bool(_LIVING.search(_before(match)))


def _is_french(match: re.Match[str]) -> bool:
    """False for lessons, such as `2 cours de Java`."""
    return match["kind"] != "cours" or match["of"].strip() not in ("de", "d'")


def _is_southern(match: re.Match[str]) -> bool:
    """False for a brand, and for an English sentence that begins with `Via`."""
    if _BRAND.search(match["name"]):
        return False
    begins = match["kind"] == "Via" and _SENTENCE_BEFORE.search(_before(match))
    return not begins or bool(_LINE_AFTER.match(match.string, match.end()))


_STREETS = ((_ENGLISH, _is_english), (_GERMAN, _is_german), (_FRENCH, _is_french), (_SOUTHERN, _is_southern))
DETECTORS = (
    Detector(r"@[^\s@.]+\.", emails),
    Detector(r"%40[^\s@.]+\.", emails_in_urls),
    Detector(r"\d\.\d{1,3}\.\d{1,3}\.\d", ipv4),
    Detector(r"[0-9a-fA-F:]:[0-9a-fA-F]{0,4}:[0-9a-fA-F:]?", ipv6),
    Detector(
        rf"\d[A-Za-z]? (?:[A-Z0-9][^\s,;:]* ){{1,4}}{_SUFFIX}"
        r"|(?:[sS]traße|[sS]trasse|[sS]tr\.|[wW]eg|[aA]llee|[gG]asse|[pP]latz|[dD]amm|[uU]fer) \d"
        rf"|{_FRENCH_KIND} (?:d|l|s|[A-ZÉÈ])"
        rf"|{_SOUTHERN_KIND} ",
        streets,
    ),
)
