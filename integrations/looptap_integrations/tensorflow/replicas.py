"""Which replica of a strategy runs, or is being traced."""

from __future__ import annotations

import tensorflow as tf


def replica() -> int | None:
    """None where there is only one, or where the program is not inside of any."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return None
    number = tf.get_static_value(context.replica_id_in_sync_group)
    return None if number is None else int(number)
