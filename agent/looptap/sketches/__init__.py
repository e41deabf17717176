"""Many numbers in few bytes: what agents count and stores merge. Imports the standard library and msgspec only; agent and
collector both stand on it, as on :mod:`looptap.events`."""
