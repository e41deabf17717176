"""Receives batches, keeps them in a store, answers questions about them, and shows them."""
