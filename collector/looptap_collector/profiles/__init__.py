"""Where the time of a run went, and what held it back: a page of findings in plain words, worst first.

Each kind of finding is a rule (:mod:`looptap_collector.profiles.rules` has the list): a small function that looks at what was
recorded (:class:`~looptap_collector.profiles.evidence.Evidence`) and returns what it found, or None below its threshold. What
it would need and is not there, it says (:class:`~looptap_collector.profiles.evidence.NotRecorded`); nothing is guessed.
"""
