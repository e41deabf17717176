"""What keeps records alive: one folder of append-only files per run and process.

::

    <root>/<journal id>/              0700; the id sorts by time and is unique
        journal.json                  whose records these are and which store they are for (JournalMeta)
        lock                          the living owner holds a flock on it; without one the journal may be adopted
        00000000000000000000.ltj      a segment, named after its first sequence number
        00000000000000014021.ltj      the next; only the newest one grows
        00000000000000014999-1.ltj    the next after a failed write: what failed is written again, under its old number
        cursor                        one past the last record that is safe in the store

Every record takes the next sequence number before it is written, and a frame carries its number, so three rules are enough:

- a number that is not in the journal is a loss that shows (as a gap), never a shift of what follows;
- a frame whose number has been passed already is a copy: writing a frame again is always allowed;
- the store knows up to which number it has everything, and commits that together with the records: so a record is stored once,
  whatever happens between delivery and cursor.

:mod:`~looptap.journal.writer` writes, :mod:`~looptap.journal.reader` reads (also while the writer writes),
:mod:`~looptap.journal.frames` and :mod:`~looptap.journal.cells` are the format, :mod:`~looptap.journal.folder` guards the
folder and says who owns it.
"""
