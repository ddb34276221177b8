"""Which environment variables hold secrets. Ranks get none: they use no Ray, no object store and no model hub."""

import re
from collections.abc import Mapping

# Ends of a name's words, as in RAY_AUTH_TOKEN, AWS_SECRET_ACCESS_KEY, DB_PASSWORD, PGPASSWORD or a service's APIKEY.
_ENDS = ("CREDENTIAL", "CREDENTIALS", "KEY", "KEYS", "PASSWD", "PASSWORD", "SECRET", "SECRETS", "TOKEN", "TOKENS")
# Of Azure's storage, with its key in it. Ray's job configuration holds the variables of its runtime environment.
_WHOLE = {"AZURE_STORAGE_CONNECTION_STRING", "RAY_JOB_CONFIG_JSON_ENV_VAR"}
_LOGIN = re.compile(r"://[^/@\s]+:[^/@\s]*@")  # of a URI, as in a proxy's or a database's


def is_secret(name: str) -> bool:
    """Whether a variable of this name may hold a secret, or say where one lies.

    >>> [is_secret(name) for name in ("RAY_AUTH_TOKEN_PATH", "AWS_ACCESS_KEY_ID", "TOKENIZERS_PARALLELISM", "PATH")]
    [True, True, False, False]
    """
    return name in _WHOLE or any(word.endswith(_ENDS) for word in name.upper().split("_"))


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that hold no secret, by their name or as a URI with a password."""
    return {name: value for name, value in environment.items() if not (is_secret(name) or _LOGIN.search(value))}
