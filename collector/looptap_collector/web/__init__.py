"""The first page: the runs of one store and, for each, its live loss charts. Read-only, for this machine
only."""
