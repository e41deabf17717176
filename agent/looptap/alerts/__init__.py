"""Watches a training while it runs, and tells when something is wrong with it.

Nothing of this is on the training's thread: what the sender takes from the journal is shown to the rules as well
(:mod:`looptap.alerts.alarms`). The rules themselves know no clock and no thread: :mod:`~looptap.alerts.losses`,
:mod:`~looptap.alerts.steps` and :mod:`~looptap.alerts.machine`.
"""
