"""Push a model folder to the Hugging Face Hub. Nothing but this folder: pairs and report quote conversations."""

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from drift.disk import files_under
from drift.errors import ConfigError, DriftError, PrerequisiteError
from drift.progress import report_note

_SECONDS = 10.0  # for an answer of the Hub; a proxy may take a request and never answer

_OF_A_MODEL = (
    "adapter_*", "*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin", "pytorch_model*.bin.index.json",
    "config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "vocab.txt", "merges.txt", "chat_template*", "Modelfile", "model.gguf",
)  # fmt: skip
"""What drift writes into a model folder, and what programs load beside it without being asked."""


def files_to_push(model: Path) -> Mapping[str, int]:
    """The files of a model folder as they would be named in the repository, with their sizes in bytes."""
    return {file.relative_to(model).as_posix(): file.stat().st_size for file in files_under(model)}


def check_repository(name: str) -> None:
    """Raises ConfigError if this cannot be the id of a repository."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ConfigError(f"--push {name}: no id of a repository ({error}) Write OWNER/NAME.") from None
    if name.count("/") != 1:
        raise ConfigError(f"--push {name}: no id of a repository. Write OWNER/NAME.")


def open_repository(name: str) -> str:
    """Create the repository, private, unless it exists; returns its address. Nothing else is sent.

    Called before the export, so that a missing login does not show after an hour of merging.
    """
    from huggingface_hub import HfApi

    with _hub_errors(name, "Nothing was exported."):
        return str(HfApi().create_repo(name, private=True, exist_ok=True))


def files_to_delete(name: str, model: Path) -> tuple[str, ...]:
    """The files of another model in the repository's root, which the model folder does not have.

    With them, others would load another model: transformers puts an adapter that lies beside whole weights on top of
    them. Whatever else is there (a licence, pictures, other quantizations) stays; a note names it. Empty, with a note,
    if the Hub shows no such repository.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    with _hub_errors(name, _again(name, model)):
        try:
            there = {file.rfilename for file in HfApi().model_info(name, timeout=_SECONDS).siblings or ()}
        except RepositoryNotFoundError as error:
            if error.response is not None and error.response.status_code == 401:
                raise  # without a login the Hub shows no private repository, whether there is one or not
            report_note(f"--push {name}: the Hub shows this login no such repository. A push would make a new one")
            return ()
    extra = there - files_to_push(model).keys() - {".gitattributes"}
    deleted = {file for file in extra if "/" not in file and any(fnmatch(file, of) for of in _OF_A_MODEL)}
    if kept := sorted(extra - deleted):
        report_note(f"--push {name} leaves what is no part of a model: {', '.join(kept)}")
    return tuple(sorted(deleted))


def push(name: str, model: Path, deleted: Sequence[str] = ()) -> str:
    """Upload every file of the model folder and delete the files in `deleted`, in one commit; returns its address."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    changes = [
        *(CommitOperationAdd(path_in_repo=file, path_or_fileobj=model / file) for file in files_to_push(model)),
        *(CommitOperationDelete(path_in_repo=file) for file in deleted),
    ]
    with _hub_errors(name, _again(name, model, deleted)):
        return HfApi().create_commit(name, changes, commit_message="Model exported by drift").commit_url


def _again(name: str, model: Path, deleted: Sequence[str] = ()) -> str:
    without = "".join(f" --delete '{file}'" for file in deleted)
    return f"The export is complete in {model.parent}. To push it: hf upload {name} {model} .{without}"


@contextmanager
def _hub_errors(name: str, what_is_left: str):
    """Turns what huggingface_hub raises into one line with the remedy."""
    from httpx2 import HTTPError
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    try:
        yield
    except (LocalTokenNotFoundError, OfflineModeIsEnabled) as error:
        remedy = "Unset HF_HUB_OFFLINE." if isinstance(error, OfflineModeIsEnabled) else "Log in first: hf auth login."
        raise PrerequisiteError(f"--push {name}: {_line(error)} {remedy} {what_is_left}") from None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        remedy = "Log in with a token that may write there: hf auth login. " if status in (401, 403, 404) else ""
        raise DriftError(f"--push {name}: the Hub refused it ({_line(error)}). {remedy}{what_is_left}") from None
    except (HTTPError, OSError) as error:
        raise DriftError(f"--push {name}: the Hub cannot be reached ({_line(error)}). {what_is_left}") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
