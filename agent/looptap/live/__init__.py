"""A profile of a training while it runs, on request: ``looptap profile RUN --live``.

Who asks leaves a file in the folder of the run's journal (:mod:`~looptap.live.mailbox`), which belongs to the same user on the same
host; a thread of the training's process looks there once a second (:mod:`~looptap.live.answering`). Nothing is opened that others
could knock at.
"""
