"""Find names of people with Presidio and a spaCy model (the extra `pii`). Slow, and as accurate as the model."""

from collections.abc import Iterator

from drift.errors import PrerequisiteError
from drift.logs.redaction.span import PersonalSpan, PersonFinder

_PIECE_CHARACTERS = 100_000  # the model's memory grows with its text


def person_finder(model: str) -> PersonFinder:
    """Load a spaCy model that is installed, for example en_core_web_sm; its first two letters are its language.

    Raises PrerequisiteError with the command that installs what is missing: nothing is downloaded here.
    """
    try:
        import spacy.util  # pyright: ignore[reportMissingImports]
        from presidio_analyzer import AnalyzerEngine  # pyright: ignore[reportMissingImports]
        from presidio_analyzer.nlp_engine import SpacyNlpEngine  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise PrerequisiteError(
            f"redacting names of people needs {error.name}: pip install 'drift-training[pii]'"
        ) from None
    if not spacy.util.is_package(model):
        raise PrerequisiteError(f"{model}: this spaCy model is not installed: python -m spacy download {model}")
    language = model[:2]
    engine = SpacyNlpEngine(models=[{"lang_code": language, "model_name": model}])
    analyzer = AnalyzerEngine(nlp_engine=engine, supported_languages=[language])

    def persons(text: str) -> Iterator[PersonalSpan]:
        for begin in range(0, len(text), _PIECE_CHARACTERS):
            piece = text[begin : begin + _PIECE_CHARACTERS]
            for result in analyzer.analyze(piece, language=language, entities=["PERSON"]):
                name = " ".join(piece[result.start : result.end].lower().split())
                if not name.startswith("<"):  # a placeholder, not a name
                    yield PersonalSpan(begin + result.start, begin + result.end, "person", name)

    return persons
