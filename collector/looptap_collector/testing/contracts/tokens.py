"""The tokens of a collector are kept."""

from __future__ import annotations

import pytest

from looptap_collector.backend import TokenRow, TokenStore


class TokenContract:
    """What keeps the tokens must do; the fixture ``tokens`` opens an empty store."""

    def test_tokens_are_kept(self, tokens: TokenStore) -> None:
        """Oldest first, as they were added."""
        later = TokenRow("id2", "é 🦦", "read", "b" * 64, 20, expires_ns=99)
        sooner = TokenRow("id1", "ada", "ingest", "a" * 64, 10)
        for token in (later, sooner):
            tokens.add_token(token)
        assert list(tokens.tokens()) == [sooner, later]
        for taken in (TokenRow("id1", "x", "read", "c" * 64, 1), TokenRow("id3", "x", "read", "a" * 64, 1)):
            with pytest.raises(ValueError, match="there already"):
                tokens.add_token(taken)
        assert len(tokens.tokens()) == 2

    def test_tokens_are_revoked_once(self, tokens: TokenStore) -> None:
        """The first time counts; an unknown one is told so."""
        tokens.add_token(TokenRow("id1", "ada", "admin", "a" * 64, 10))
        assert tokens.revoke_token("id2", 5) is False
        assert tokens.revoke_token("id1", 50) is True
        assert tokens.revoke_token("id1", 60) is True
        assert [token.revoked_ns for token in tokens.tokens()] == [50]

    def test_the_latest_use_counts(self, tokens: TokenStore) -> None:
        """In whatever order several collectors tell it."""
        tokens.add_token(TokenRow("id1", "ada", "admin", "a" * 64, 10))
        for at_ns in (30, 20):
            tokens.token_used("id1", at_ns)
        tokens.token_used("nobody", 99)
        assert [token.last_used_ns for token in tokens.tokens()] == [30]
