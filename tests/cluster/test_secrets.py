"""No secret reaches a rank, and none of what a study runs listens to anybody but this machine."""

import ast
from pathlib import Path

import pytest

from joulelaw.cluster.ranks.secret_names import is_secret, without_secrets
from joulelaw.cluster.ranks.server import ForkServer

ROOT = Path(__file__).resolve().parents[2]
SECRETS = (
    "RAY_AUTH_TOKEN",
    "RAY_AUTH_TOKEN_PATH",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "AZURE_CLIENT_SECRET",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "WANDB_API_KEY",
    "DB_PASSWORD",
    "PGPASSWORD",
    "OPENAI_APIKEY",
    "AZURE_STORAGE_CONNECTION_STRING",
    "RAY_JOB_CONFIG_JSON_ENV_VAR",
)
NEEDED = ("PATH", "HOME", "LD_LIBRARY_PATH", "CUDA_HOME", "NCCL_SOCKET_IFNAME", "TOKENIZERS_PARALLELISM", "HF_HOME")


def test_secrets_are_known_by_their_names() -> None:
    assert all(map(is_secret, SECRETS))
    assert not any(map(is_secret, NEEDED))


def test_uris_with_a_password_are_secrets_whatever_they_are_called() -> None:
    safe = {"NO_PROXY": "10.0.0.0/8", "HTTP_PROXY": "http://proxy:3128", "STUDY": "s3://bucket/a:b@c"}
    secret = {"HTTPS_PROXY": "http://me:hush@proxy:3128", "DATABASE_URL": "postgresql://me:hush@db/x"}
    assert without_secrets(safe | secret) == safe


def test_a_fork_server_and_so_its_ranks_inherit_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the kernel shows it: what the process was started with, and its children inherit."""
    for name in SECRETS:
        monkeypatch.setenv(name, "hush-4711")
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "eth7")
    with ForkServer() as server:
        server.wait_ready()
        given = Path(f"/proc/{server.pid}/environ").read_bytes()
    assert b"hush-4711" not in given
    assert b"NCCL_SOCKET_IFNAME=eth7" in given


def calls(path: Path) -> list[tuple[int, str, dict[str, ast.expr]]]:
    """Line, dotted name and named arguments of each call in a file."""
    tree = ast.parse(path.read_text())
    return [
        (node.lineno, ast.unparse(node.func), {each.arg: each.value for each in node.keywords if each.arg})
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    ]


def unsafe(name: str, given: dict[str, ast.expr]) -> str:
    """What is wrong with a call that may run code out of what it reads; empty where it cannot."""
    if name in ("pickle.dumps", "pickle.UnpicklingError"):  # reading is what is dangerous
        return ""
    if name in ("eval", "exec") or name.split(".")[0] in ("pickle", "cloudpickle", "dill", "marshal", "shelve"):
        return "runs what it reads"
    if name in ("yaml.load", "yaml.unsafe_load", "yaml.full_load", "joblib.load", "os.system", "pandas.read_pickle"):
        return "runs what it reads"
    stated = {key: ast.unparse(value) for key, value in given.items()}
    if name.endswith("torch.load") and stated.get("weights_only") != "True":
        return "unpickles"
    for key in ("allow_pickle", "trust_remote_code", "shell"):
        if stated.get(key, "False") != "False":
            return f"{key}={stated[key]}"
    return ""


def test_nothing_runs_code_out_of_a_file() -> None:
    files = [path for package in ("bench", "cluster", "model") for path in (ROOT / package).rglob("*.py")]
    assert len(files) > 100
    found = {
        f"{path.relative_to(ROOT)}:{line} {name}: {wrong}"
        for path in files
        for line, name, given in calls(path)
        if (wrong := unsafe(name, given))
    }
    assert not found


@pytest.mark.parametrize(
    "code", ["pickle.load(f)", "torch.load(p)", "np.load(p, allow_pickle=True)", "yaml.load(t)", "run(c, shell=True)"]
)
def test_a_call_that_could_would_be_found(code: str, tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(code)
    ((_, name, given),) = calls(tmp_path / "one.py")
    assert unsafe(name, given)
