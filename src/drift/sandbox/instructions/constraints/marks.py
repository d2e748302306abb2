"""Which characters: capital and small letters, commas, exclamation marks, line breaks, a letter to leave out."""

from drift.sandbox.instructions.constraints.text import plain, words


def one_line(text: str) -> bool:
    stripped = plain(text).strip()
    return bool(stripped) and "\n" not in stripped


def no_commas(text: str) -> bool:
    return bool(words(text)) and not set(text) & set(",，、،")


def exclamations(text: str, n: str) -> bool:
    return text.count("!") + text.count("！") >= int(n)


def lower_case(text: str) -> bool:
    return any(c.islower() for c in text) and not any(c.isupper() for c in text)


def upper_case(text: str) -> bool:
    return any(c.isupper() for c in text) and not any(c.islower() for c in text)


def capital_words(text: str, n: str) -> bool:
    """At least n different words in capitals ("I" and "A" do not count), but no more than half of all words."""
    found = words(text)
    capitals = [word for word in found if word.isupper() and sum(c.isalpha() for c in word) >= 2]
    return len(set(capitals)) >= int(n) and 2 * len(capitals) <= len(found)


def avoid_letter(text: str, letter: str) -> bool:
    return bool(words(text)) and letter.lower() not in text.lower()
