"""Secrets are taken out before anything is written, the journal included.

Four rules: a key that is named like a secret loses its value; a value that looks like a secret (a known token format, a
private key, ``user:password@`` in a URL, a signed URL) loses that part; ``--token X`` and ``--token=X`` on the command line
lose X; environment variables are kept only when they are on the list of harmless ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from looptap.plain import clean

REDACTED = "[redacted]"

_SECRET_WORDS = (
    "password passwd passphrase secret apikey api_key access_key auth authorization credential credentials mysql_pwd"
    " private_key privatekey session_id sessionid session_key cookie csrf xsrf bearer connection_string webhook dsn pwd"
).split()
# "token" alone is how half of all language models are configured (max_tokens, token_dim, pad_token), so only these:
_SECRET_TOKEN = re.compile(
    r"(?:^|_)(?:access|api|auth|bearer|bot|csrf|github|gitlab|hf|hub|id|refresh|user|wandb)_?token$"
)
_LONE_TOKEN = re.compile(r"^(?:my_?)?token$")

_SECRET_VALUES = re.compile(
    r"""
      \b(?:AKIA|ASIA)[0-9A-Z]{16}\b                              # AWS access key id
    | \bgh[pousr]_[A-Za-z0-9]{20,}                               # GitHub
    | \bgithub_pat_[A-Za-z0-9_]{20,}
    | \bglpat-[A-Za-z0-9_\-]{16,}                                # GitLab
    | \bhf_[A-Za-z0-9]{20,}                                      # Hugging Face
    | \bsk-[A-Za-z0-9_\-]{16,}                                   # OpenAI, Anthropic
    | \bxox[abeoprs]-[A-Za-z0-9\-]{10,}                          # Slack
    | \blt_[A-Za-z0-9_\-]{43,}                                  # looptap
    | \bAIza[0-9A-Za-z_\-]{30,}                                  # Google
    | \beyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*  # JSON web token
    | -----BEGIN[ A-Z]*PRIVATE\ KEY-----[\s\S]*?(?:-----END[ A-Z]*PRIVATE\ KEY-----|$)
    | (?<=[?&;])(?:sig|X-Amz-Signature|X-Amz-Credential|X-Amz-Security-Token|X-Goog-Signature|AccountKey)=[^&\s;]+
    | \bAccountKey=[^;\s]+                                       # Azure connection string
    """,
    re.VERBOSE | re.IGNORECASE,
)
_URL_USER = re.compile(r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.\-]*://)[^/\s@]+@")
_URL_QUERY_SECRET = re.compile(r"(?P<key>[?&][^=&\s]*)=(?P<value>[^&\s]+)")

#: Variables that say how a program was started on which devices, and nothing private.
_HARMLESS = re.compile(
    r"^(?:CUDA_VISIBLE_DEVICES|CUDA_DEVICE_ORDER|CUDA_LAUNCH_BLOCKING|CUBLAS_WORKSPACE_CONFIG|NVIDIA_VISIBLE_DEVICES"
    r"|HIP_VISIBLE_DEVICES|ROCR_VISIBLE_DEVICES|OMP_NUM_THREADS|MKL_NUM_THREADS|OPENBLAS_NUM_THREADS|PYTHONHASHSEED"
    r"|RANK|LOCAL_RANK|WORLD_SIZE|LOCAL_WORLD_SIZE|NODE_RANK|GROUP_RANK|MASTER_PORT|TORCHELASTIC_(?:RUN_ID|RESTART_COUNT)"
    r"|SLURM_(?:JOB_ID|JOB_NAME|JOB_NUM_NODES|NTASKS|PROCID|LOCALID|NODEID|ARRAY_JOB_ID|ARRAY_TASK_ID|CPUS_PER_TASK"
    r"|GPUS_ON_NODE|JOB_PARTITION)|PYTORCH_(?:CUDA_)?ALLOC_CONF|NCCL_(?:DEBUG|P2P_DISABLE|IB_DISABLE|ALGO|PROTO)"
    r"|TF_(?:CPP_MIN_LOG_LEVEL|ENABLE_ONEDNN_OPTS|DETERMINISTIC_OPS|XLA_FLAGS)|XLA_FLAGS|KERAS_BACKEND"
    r"|TOKENIZERS_PARALLELISM|CONDA_DEFAULT_ENV|KUBERNETES_SERVICE_PORT)$"
)


class Redactor:
    """``words`` are further words that mark a key as secret (setting ``redact``)."""

    def __init__(self, words: Iterable[str] = ()) -> None:
        marks = [*_SECRET_WORDS, *(word.lower() for word in words)]
        self._words = re.compile(r"(?:^|_)(?:" + "|".join(re.escape(mark) for mark in marks) + r")(?:$|_)")

    def is_secret(self, key: str) -> bool:
        """True when a key is named like a secret, whatever its separators and case: ``dbPassword``, ``API-KEY``, ``--token``."""
        snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key)
        snake = re.sub(r"[^A-Za-z0-9]+", "_", snake).strip("_").lower()
        last = snake.rsplit("_", 1)[-1] if "_" in snake else snake
        return bool(
            self._words.search(snake)
            or _SECRET_TOKEN.search(snake)
            or _LONE_TOKEN.match(key.rsplit(".", 1)[-1].strip("-").lower())
            or (last == "token" and snake.split("_")[0] in ("secret", "private"))
        )

    def text(self, text: str) -> str:
        """The text without what looks like a secret in it."""
        if "://" in text:
            text = _URL_USER.sub(lambda match: f"{match['scheme']}{REDACTED}@", text)
            text = _URL_QUERY_SECRET.sub(
                lambda match: f"{match['key']}={REDACTED}" if self.is_secret(match["key"][1:]) else match[0],
                text,
            )
        return _SECRET_VALUES.sub(REDACTED, text)

    def storable(self, text: str) -> str:
        """As :meth:`text`, and without the characters that no store takes."""
        return self.text(clean(text)).replace("\0", " ")

    def value(self, key: str, value: Any) -> Any:
        """A value as :func:`looptap.plain.plain` made it, redacted at every depth."""
        if isinstance(value, dict):
            return (
                {self.text(name): self.value(name, item) for name, item in value.items()}
                if not self.is_secret(key)
                else REDACTED
            )
        if value is None or isinstance(value, bool):
            return value
        if self.is_secret(key):
            return REDACTED
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.value("", item) for item in value]
        return value

    def command(self, words: Iterable[str]) -> tuple[str, ...]:
        """A command line; the value after or inside a secret option is gone."""
        kept: list[str] = []
        hide_next = False
        for word in words:
            option, equals, _ = word.partition("=")
            if hide_next and not word.startswith("-"):
                kept.append(REDACTED)
            elif equals and self.is_secret(option):
                kept.append(f"{option}={REDACTED}")
            else:
                kept.append(self.text(word))
            hide_next = word.startswith("-") and not equals and self.is_secret(word)
        return tuple(kept)

    def environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        """The harmless ones only, and those redacted too."""
        return {name: self.text(text) for name, text in sorted(variables.items()) if _HARMLESS.match(name)}
