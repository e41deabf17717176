"""How stores of older versions become stores of this one; run by Alembic, see ``backends/schema.py``."""
