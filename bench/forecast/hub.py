"""The config.json of a model on the Hugging Face hub. The one file that touches huggingface_hub."""

import json
from pathlib import Path
from typing import Any

TIMEOUT_S = 5.0
MOST_BYTES = 1_000_000


class HubError(Exception):
    """Why the hub told nothing.

    >>> str(HubError("the hub has no such model"))
    'the hub has no such model'
    """


def config_of(name: str) -> Any:
    """What config.json holds: of the local cache where it is there, else one request, without a retry.

    Raises:
        HubError: huggingface_hub is not installed, the hub cannot be reached, or has no such model.
    """
    try:
        from huggingface_hub import hf_hub_url, try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils import build_hf_headers, get_session
    except ImportError:
        raise HubError("huggingface_hub, which would ask the hub, is not installed") from None
    try:
        cached = try_to_load_from_cache(name, "config.json")
        if isinstance(cached, str):
            return json.loads(Path(cached).read_bytes())
        url, headers = hf_hub_url(name, "config.json"), build_hf_headers()
        answer = get_session().get(url, headers=headers, timeout=TIMEOUT_S, follow_redirects=True)
    except HFValidationError:
        raise HubError("it cannot be a name on the hub") from None
    except Exception as error:  # whatever the library and the network under it meet
        raise HubError(f"the hub cannot be reached ({type(error).__name__})") from None
    if answer.status_code != 200:
        raise HubError(f"the hub has no config.json of it that may be read (status {answer.status_code})")
    try:
        return json.loads(answer.content[:MOST_BYTES])
    except ValueError:
        raise HubError("what the hub has is no JSON") from None
