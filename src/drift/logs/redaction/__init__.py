"""Personal data out of the text before anything is written: e-mail, phone, cards, ids, addresses, keys, passwords.

A file per family of patterns; each names the RE2 pattern without which none of its findings can be (`GATE`), so that
texts without a candidate are passed over at the speed of one scan.
"""

from drift.logs.redaction.finder import find
from drift.logs.redaction.redact import Redactor, make_redactor, redact_text

__all__ = ["Redactor", "find", "make_redactor", "redact_text"]
