"""Where the time of a batch goes, by the host's clock, as far as it can be told apart::

    the batch before has ended      train   Keras waits for its values (not where it does so in a thread of its own)
    its values are here             other   callbacks of the program, and Keras' own
    its callbacks have returned     data    Keras gets a batch
    the batch begins                train   the train function: forward, backward and optimizer in one
    the batch has ended

Where the train function gets its batch itself (TensorFlow, JAX), that is *data* as well; how it is seen is in
:mod:`~looptap_integrations.keras.waits`. The names are those of PyTorch's loops, but for *train*.
"""

from __future__ import annotations

STEP = "step_time"
DATA, TRAIN, OTHER = "time.data", "time.train", "time.other"
