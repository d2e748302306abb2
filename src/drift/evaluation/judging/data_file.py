"""A benchmark's own file: the one that the user brings, else the hub's."""

from pathlib import Path

from drift.errors import DataError, PrerequisiteError


def bring(given: Path | None, repository: str, name: str) -> Path:
    """`given`, or `name` of the data set `repository` on the Hugging Face hub (downloaded once, then cached there).

    Raises DataError if the given file is not there, PrerequisiteError saying which file to bring if the hub is not.
    """
    if given is not None:
        if not given.is_file():
            raise DataError(f"{given}: there is no such file. --data takes {name} of {repository}.")
        return given
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(hf_hub_download(repository, name, repo_type="dataset"))
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise PrerequisiteError(
            f"huggingface.co/datasets/{repository} cannot be reached ({type(error).__name__}). Bring the file {name} "
            "from there and name it: --data FILE."
        ) from None
