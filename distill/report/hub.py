"""A saved model on the Hugging Face hub, by ``huggingface_hub``, which knows where tokens and the hub's address are."""

import contextlib
import os
from collections.abc import Iterator, Sequence

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id

TOKEN_ADVICE = 'log in by `hf auth login`, or set HF_TOKEN to a token that may write'
HTTP_LIBRARIES = ('httpx', 'httpx2', 'requests')
"""What huggingface_hub speaks to the hub by; the errors of some of them are no OSError."""


def check_repository(repo: str, files: Sequence[str], overwrite: bool) -> None:
    """Check that a model can be uploaded: the name, the token, and what the repository holds.

    Args:
        repo: ``OWNER/NAME``.
        files: What will be uploaded.
        overwrite: Whether these may be there.

    Raises:
        OSError: The hub does not answer, or refuses the token.
        ValueError: The name is none, there is no token, or the repository has such a file.
    """
    if repo.count('/') != 1:
        raise ValueError(f"--push '{repo}' names no repository; give OWNER/NAME")
    validate_repo_id(repo)
    if get_token() is None:
        raise ValueError(f"there is no token to push to '{repo}' with; {TOKEN_ADVICE}")
    with _one_kind_of_error(repo):
        try:
            there = set(HfApi().list_repo_files(repo)) & set(files)
        except RepositoryNotFoundError:
            return
    if there and not overwrite:
        raise ValueError(
            f"repository '{repo}' has {', '.join(sorted(there))}; name a new one, or replace them with --overwrite"
        )


def push(folder: str | os.PathLike, files: Sequence[str], repo: str, private: bool) -> str:
    """Upload files of a folder in one commit; the repository is made if there is none.

    Args:
        folder: The folder.
        files: What is uploaded of it.
        repo: ``OWNER/NAME``.
        private: Whether a new repository is private; one that is there stays as it is.

    Returns:
        Address of the repository.

    Raises:
        OSError: The hub does not answer, or refuses.
    """
    with _one_kind_of_error(repo):
        api = HfApi(library_name='robust-backbones')
        url = api.create_repo(repo, private=private or None, exist_ok=True)
        api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            allow_patterns=list(files),
            commit_message='Model saved by robust-backbones',
        )
    return str(url)


@contextlib.contextmanager
def _one_kind_of_error(repo: str) -> Iterator[None]:
    """Make an OSError of what the hub, or the way to it, raises."""
    try:
        yield
    except Exception as error:
        of_the_way = type(error).__module__.partition('.')[0] in (*HTTP_LIBRARIES, 'huggingface_hub')
        if not of_the_way and not isinstance(error, (OSError, RuntimeError)):
            raise
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise OSError(
            f"the hub did not take '{repo}' ({reason}); {TOKEN_ADVICE}, and see whether it answers"
        ) from error
