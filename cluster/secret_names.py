"""Which environment variables hold secrets. Ranks get none: they use no Ray, no object store and no model hub."""

from collections.abc import Mapping

# Words of a name, as in RAY_AUTH_TOKEN, AWS_SECRET_ACCESS_KEY, HF_TOKEN, DB_PASSWORD or a service's API_KEY.
_WORDS = {"CREDENTIAL", "CREDENTIALS", "KEY", "PASSWD", "PASSWORD", "SECRET", "TOKEN"}
# Ray's job configuration holds the variables of its runtime environment, as they were given.
_WHOLE = {"RAY_JOB_CONFIG_JSON_ENV_VAR"}


def is_secret(name: str) -> bool:
    """Whether a variable of this name may hold a secret, or say where one lies.

    >>> [is_secret(name) for name in ("RAY_AUTH_TOKEN_PATH", "AWS_ACCESS_KEY_ID", "TOKENIZERS_PARALLELISM", "PATH")]
    [True, True, False, False]
    """
    return name in _WHOLE or not _WORDS.isdisjoint(name.upper().split("_"))


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that hold no secret."""
    return {name: value for name, value in environment.items() if not is_secret(name)}
