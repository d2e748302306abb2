"""Find keys and tokens in the formats of their providers, private keys, and passwords in URLs or after their name."""

import re
from collections.abc import Iterator

from drift.logs.redaction.span import Detector, PersonalSpan

# Prefix and body of providers' keys, from their documentation or from their secret scanners.
_KEYS = (
    r"sk-(?:proj|svcacct|admin|ant|or|lf)-[\w-]{20,}",
    r"sk-[A-Za-z0-9]{20,}",  # OpenAI (legacy), DeepSeek, ...
    r"gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{22,}",
    r"gl(?:pat|dt|rt|ptt|soat|ft)-[\w-]{20,}",
    r"(?:AKIA|ASIA)[A-Z2-7]{16}",
    r"AIza[\w-]{35}|ya29\.[\w-]{20,}|GOCSPX-[\w-]{28}",
    r"xox[abeoprs]-[A-Za-z0-9-]{10,}|xapp-[0-9]-[A-Za-z0-9-]{20,}",
    r"(?:sk|pk|rk)_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9+/=]{24,}",
    r"hf_[A-Za-z0-9]{30,}|r8_[A-Za-z0-9]{37}|gsk_[A-Za-z0-9]{40,}|xai-[A-Za-z0-9]{60,}|pplx-[A-Za-z0-9]{40,}",
    r"nvapi-[\w-]{40,}|tvly-[\w-]{20,}|lin_api_[A-Za-z0-9]{32,}|pa-[A-Za-z0-9_-]{40,}",
    r"npm_[A-Za-z0-9]{36}|pypi-[\w-]{50,}|rubygems_[a-f0-9]{48}",
    r"SG\.[\w-]{16,32}\.[\w-]{16,64}|key-[0-9a-f]{32}",
    r"do[opr]_v1_[a-f0-9]{64}|shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}|sq0[a-z]{3}-[\w-]{22,43}|dapi[a-f0-9]{32}",
    r"(?:AC|SK)[a-f0-9]{32}",  # Twilio
    r"EAA[A-Za-z0-9]{60,}|hv[sb]\.[\w-]{24,}|dp\.(?:pt|st)\.[\w.-]{40,}|glsa_\w{32,}|sntry[su]_[\w+/=-]{40,}",
    r"ATATT3[\w-]{50,}=?[A-F0-9]{0,8}|PMAK-[a-f0-9]{24}-[a-f0-9]{34}|figd_[\w-]{36,}|secret_[A-Za-z0-9]{43}|ntn_[A-Za-z0-9]{40,}",
    r"[0-9]{8,10}:AA[\w-]{33}",  # Telegram
    r"[MNO][A-Za-z0-9]{23,27}\.[\w-]{6}\.[\w-]{27,45}",  # Discord
    r"eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}",  # JSON Web Token
    r"AGE-SECRET-KEY-1[0-9A-Z]{58}",
)
_KEY = re.compile(rf"(?<![\w-])(?:{'|'.join(_KEYS)})(?![A-Za-z0-9])", re.ASCII)
_HOOK = re.compile(r"hooks\.slack\.com/(?:services|workflows)/([\w/]{20,})", re.ASCII)

# Up to its end line or, if that is missing, as far as header lines and base64 go
_PRIVATE = re.compile(
    r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:[^-]{0,20000}+(?:-(?!----)[^-]{0,2000}+){0,200}+-----END (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    r"|(?:(?:\s|\\[nr]){1,8}[A-Z][A-Za-z-]{1,30}: [^\n\\]{0,200}){0,8}(?:(?:\s|\\[nr]){1,8}[A-Za-z0-9+/=]{16,}){1,200})"
)
_URL = re.compile(r"[a-z][a-z0-9+.-]{1,20}://([^\s/:@\"'<>]{0,100}:([^\s/\"'<>]{1,200}))@(?=[\w\[])", re.IGNORECASE)

_SECRET_NAME = (
    r"(?:api[_ -]?keys?|(?:secret|access|account|private|auth|signing|encryption|master)[_ -]?keys?"
    r"|client[_ -]?secrets?|secret[_ -]access[_ -]key|(?:access|auth|refresh|bearer|api|session|id)[_ -]?tokens?"
    r"|tokens?|secrets?)"
)
_BEARER = re.compile(r"\b(?:Bearer|Basic)\s+([A-Za-z0-9+/=._~-]{20,})")
_NAMED_KEY = re.compile(
    rf"(?<![A-Za-z]){_SECRET_NAME}[\"'`\])]{{0,2}}(?:\s?(?:=>|:=|[:=])\s?|\s+is:?\s+)[\"'`]?([A-Za-z0-9+/=._~-]{{16,}})",
    re.IGNORECASE,
)
_CURL = re.compile(
    r"\bcurl\b(?:[^\n;|]|\\\n){0,300}?\s(?:-u|--user|-U|--proxy-user)"
    r"[ =]?[\"']?([^\s:\"'$]{1,64}:([^\s\"'|&;<>]{1,128}))"
)
_PASSWORD_NAME = (
    r"(?:(?:password|passwort|passwd|pwd|passphrase|passcode|mot de passe|contraseña|senha)"
    r"|(?<![A-Za-z])(?:(?-i:[Pp]ass|(?<=_)PASS)|pw)(?=[\"'`\])]{0,2}\s?[:=]))[\"'`\])]{0,2}"
)
_LETTER = r"[^\s\"'`<>()\[\]{}$,;]"  # of an unquoted password; `$` only inside, and not before a variable
_NAMED_PASSWORD = re.compile(
    rf"(?=[cmps]){_PASSWORD_NAME}(?:\s+(?:for|to|of|on|für|para|pour)\s[^\n.,:;=<>]{{1,40}}?)?"
    rf"(?:\s?(?:=>|->|:=|[:=])\s?|\s+(?:is|ist|es|est):?\s+)([\"'`]?)({_LETTER}(?:{_LETTER}|\$(?![({{])){{5,63}})",
    re.IGNORECASE,
)
# Not a password: an attribute or a call in a program, a path, a rule for passwords
_CODE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+|(?:[~.]{0,2}(?:/[\w.-]+){2,}|[A-Za-z]:\\.*)/?")
_CALL = re.compile(r"[A-Za-z_][\w.]*")
_ASKED = re.compile(
    r"(?:min|max)(?:imum)?[_-]?(?:len(?:gth)?|chars?|size)?[_:=-]?[0-9]+|[0-9]+(?:-[0-9]+)?-?(?:char|digit|letter|bit)\w*",
    re.IGNORECASE,
)
_SAMPLE = re.compile(
    r"your|example|sample|placeholder|change.?me|redacted|insert|xxx|\*\*\*|\.\.\.|1234567890abcdef|abcdef123456|process\.env"
    r"|os\.environ|getenv|config\.|settings\.|self\.|this\.|req\.|request\.|user\.|null|undefined",
    re.IGNORECASE,
)
_WORD_FOR_PASSWORD = re.compile(r"(?:pass(?:word|wd)?|pwd|pw|secret|token|user(?:name)?)[0-9]{0,2}", re.IGNORECASE)


def private_keys(text: str) -> Iterator[PersonalSpan]:
    for match in _PRIVATE.finditer(text):
        yield PersonalSpan(*match.span(), "private_key", match[0])


def keys(text: str) -> Iterator[PersonalSpan]:
    for match in _KEY.finditer(text):
        if re.search("[0-9]", match[0]):
            yield PersonalSpan(*match.span(), "api_key", match[0])
    for match in _HOOK.finditer(text):
        yield PersonalSpan(*match.span(1), "api_key", match[1])
    for match in _BEARER.finditer(text):
        yield from _named_key(match)


def passwords_in_urls(text: str) -> Iterator[PersonalSpan]:
    for match in _URL.finditer(text):
        if not _is_sample(match[2]):
            yield PersonalSpan(*match.span(1), "password", match[1])


def passwords_of_curl(text: str) -> Iterator[PersonalSpan]:
    for match in _CURL.finditer(text):
        if not _is_sample(match[2]):
            yield PersonalSpan(*match.span(1), "password", match[1])


def named(text: str) -> Iterator[PersonalSpan]:
    """Yield values after a word for key, token or password."""
    for match in _NAMED_KEY.finditer(text):
        yield from _named_key(match)
    for match in _NAMED_PASSWORD.finditer(text):
        value = match[2] if match[1] else match[2].rstrip(".:?")
        mixed = re.search("[0-9]", value) and re.search("[^0-9.]", value)
        if mixed and not _is_sample(value) and not _is_code(match):
            # Many passwords end with `!`: it is replaced too, but the value counts as the same without it.
            yield PersonalSpan(match.start(2), match.start(2) + len(value), "password", value.rstrip(".:!?"))


def _is_code(match: re.Match[str]) -> bool:
    """True for the right side of an assignment in code. A quoted value is not code."""
    value = match[2].rstrip(".:?")
    if _ASKED.fullmatch(value):
        return True
    called = match.string[match.end() : match.end() + 1] in ("(", "[") and _CALL.fullmatch(value)
    return not match[1] and bool(called or _CODE.fullmatch(value))


DETECTORS = (
    Detector("PRIVATE KEY", private_keys),
    Detector(
        r"(?:sk-|gh[pousr]_|github_pat_|gl(?:pat|dt|rt|ptt|soat|ft)-|xapp-|[spr]k_(?:live|test)_|whsec_|hf_|r8_|gsk_|xai-"
        r"|pplx-|nvapi-|tvly-|lin_api_|pa-|npm_|pypi-|rubygems_|key-|do[opr]_v1_|shp(?:at|ca|pa|ss)_|sq0[a-z]{3}-|dapi"
        r"|glsa_|sntry[su]_|ATATT3|PMAK-|figd_|secret_|ntn_|AKIA|ASIA|AIza|GOCSPX-|EAA)[\w+/=-]{14}",
        keys,
    ),
    Detector(
        r"xox[abeoprs]-|ya29\.|SG\.[\w-]{16}|hv[sb]\.[\w-]{24}|dp\.(?:pt|st)\.|:AA[\w-]{33}|eyJ[\w-]{10,}\."
        r"|AGE-SECRET-KEY|(?:AC|SK)[a-f0-9]{32}|[MNO][A-Za-z0-9]{23,27}\.|hooks\.slack\.com/|(?:Bearer|Basic)\s+\S{20}",
        keys,
    ),
    Detector(r"://[^\s/:@\"'<>]*:[^\s/\"'<>]+@", passwords_in_urls),
    Detector(
        r"(?i)(?:keys?|tokens?|secrets?)[\"'`\])]{0,2}(?:\s?[:=]|\s+is)[=>\s\"'`:]{0,5}[a-z0-9+/=._~-]{16}"
        r"|(?:passwor[dt]|passwd|pwd|passphrase|passcode|mot de passe|contraseña|senha)[\"'`\])]{0,2}\s*"
        r"(?:[:=]|->|is|es|for|to|o[fn]|für|p[ao])|p(?:ass|w)[\"'`\])]{0,2}\s?[:=]",
        named,
    ),
    Detector(r"curl(?:[^\n]|\\\n)*\s(?:-u|-U|--user|--proxy-user)", passwords_of_curl),
)


def _named_key(match: re.Match[str]) -> Iterator[PersonalSpan]:
    value = match[1].rstrip(".")
    if _is_random(value) and not _SAMPLE.search(value):
        yield PersonalSpan(match.start(1), match.start(1) + len(value), "api_key", value)


def _is_sample(value: str) -> bool:
    """True for what manuals write in place of a password."""
    return bool(_SAMPLE.search(value) or _WORD_FOR_PASSWORD.fullmatch(value) or value[0] in "$%{<[")


def _is_random(value: str) -> bool:
    """True if letters and digits are mixed as in no word or name."""
    digits, kinds = sum(map(str.isdecimal, value)), len(set(value))
    cases = value.lower() != value and value.upper() != value
    return 3 - cases <= digits < len(value) and kinds >= 9
