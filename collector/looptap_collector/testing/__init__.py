"""For the tests of those who write a backend: :mod:`looptap_collector.testing.backend` has the suites that every backend must
pass, :mod:`looptap_collector.testing.batches` makes batches as an agent does. Needs the extra ``looptap[testing]``.
"""
