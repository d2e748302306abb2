"""Names of people, by Presidio and a spaCy model: the extra `pii`. Slow, and right about as often as its model."""

from collections.abc import Iterator

from drift.errors import PrerequisiteError
from drift.logs.redaction.span import PersonalSpan, PersonFinder

_PIECE = 100_000  # characters at once: the model's memory grows with its text


def person_finder(model: str) -> PersonFinder:
    """`model`: a spaCy model that is installed, for example en_core_web_sm; its first two letters are its language.

    Raises PrerequisiteError with the command that installs what is missing: nothing is downloaded here.
    """
    try:
        import spacy.util  # pyright: ignore[reportMissingImports]
        from presidio_analyzer import AnalyzerEngine  # pyright: ignore[reportMissingImports]
        from presidio_analyzer.nlp_engine import SpacyNlpEngine  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise PrerequisiteError(f"names of people need {error.name}: pip install 'drift-training[pii]'") from None
    if not spacy.util.is_package(model):
        raise PrerequisiteError(f"{model}: no such spaCy model is installed: python -m spacy download {model}")
    language = model[:2]
    engine = SpacyNlpEngine(models=[{"lang_code": language, "model_name": model}])
    analyzer = AnalyzerEngine(nlp_engine=engine, supported_languages=[language])

    def persons(text: str) -> Iterator[PersonalSpan]:
        for begin in range(0, len(text), _PIECE):
            piece = text[begin : begin + _PIECE]
            for found in analyzer.analyze(piece, language=language, entities=["PERSON"]):
                name = " ".join(piece[found.start : found.end].lower().split())
                if not name.startswith("<"):  # a placeholder is nobody's name
                    yield PersonalSpan(begin + found.start, begin + found.end, "person", name)

    return persons
