"""The collector as a server: many agents write to it, and it answers questions; ``looptap server``."""
