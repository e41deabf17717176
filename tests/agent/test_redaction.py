"""Secrets do not reach the journal; ordinary settings do."""

from __future__ import annotations

import pytest

from looptap.redaction import REDACTED, Redactor

redactor = Redactor()


@pytest.mark.parametrize(
    "key",
    "password db_password dbPassword API_KEY api-key apiKey openai_api_key secret client_secret hf_token HF_TOKEN token --token"
    " auth.token access_token Authorization aws_secret_access_key private_key sessionid cookie wandb_token".split(),
)
def test_secret_keys(key: str) -> None:
    """Keys that are named like a secret, in any spelling."""
    assert redactor.is_secret(key)
    assert redactor.value(key, "hunter2") == REDACTED


@pytest.mark.parametrize(
    "key",
    "max_tokens num_tokens pad_token eos_token token_dim tokenizer keypoints monkey lr batch_size author key_dim attention"
    " session n_keys optimizer.lr passes".split(),
)
def test_ordinary_keys(key: str) -> None:
    """Settings of language models and the like are no secrets."""
    assert not redactor.is_secret(key)
    assert redactor.value(key, 512) == 512


@pytest.mark.parametrize(
    "secret",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_" + "a1" * 18,
        "hf_" + "Ab" * 17,
        "sk-" + "x9" * 20,
        "xoxb-1234567890-abcdef",
        "eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSM",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_secret_values_anywhere(secret: str) -> None:
    """What looks like a secret goes, wherever it stands: plain, in a list, in a dict, in the middle of a text."""
    text = f"before {secret} after"
    assert redactor.text(text) == f"before {REDACTED} after"
    cleaned = redactor.value("notes", [{"inner": text}, 3, None, True])
    assert cleaned == [{"inner": f"before {REDACTED} after"}, 3, None, True]


def test_urls() -> None:
    """User and password, and signatures, leave a URL; the rest stays."""
    assert redactor.text("https://me:pw@host/x.git") == f"https://{REDACTED}@host/x.git"
    assert redactor.text("postgresql://u:p@db:5432/x") == f"postgresql://{REDACTED}@db:5432/x"
    signed = redactor.text("https://b.example/x?X-Amz-Signature=abc&sig=def&page=2&api_key=zzz")
    assert "abc" not in signed
    assert "def" not in signed
    assert "zzz" not in signed
    assert "page=2" in signed


def test_command_line() -> None:
    """``--token X`` and ``--token=X`` lose X; what follows another option stays."""
    words = [
        "train.py",
        "--lr",
        "0.1",
        "--token",
        "abc",
        "--api-key=def",
        "--password",
        "--max-tokens",
        "512",
        "-v",
    ]
    assert redactor.command(words) == (
        "train.py", "--lr", "0.1", "--token", REDACTED, f"--api-key={REDACTED}", "--password", "--max-tokens", "512", "-v",
    )  # fmt: skip


def test_environment_is_an_allow_list() -> None:
    """Only variables known to be harmless are kept."""
    kept = redactor.environment(
        {"CUDA_VISIBLE_DEVICES": "0,1", "RANK": "3", "AWS_SECRET_ACCESS_KEY": "x", "HOME": "/x"}
    )
    assert kept == {"CUDA_VISIBLE_DEVICES": "0,1", "RANK": "3"}


def test_words_of_the_user() -> None:
    """The setting ``redact`` adds words."""
    assert Redactor(["patient"]).value("patient_name", "Ann") == REDACTED
    assert redactor.value("patient_name", "Ann") == "Ann"
