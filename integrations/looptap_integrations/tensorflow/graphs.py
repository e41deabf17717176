"""What graphs have of us: a ring for each thread that trains, and what the entries in it stand for.

This outlives :func:`looptap.stop`: a function that was traced with a ring in it goes on writing, and when watching begins
again, what it writes is known.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Hashable
from typing import Any

import tensorflow as tf
from tensorflow.python.ops import control_flow_util

from looptap_integrations.rings import Ring
from looptap_integrations.tensorflow.sites import is_no_step

#: Steps with a loss each: half of it. As large as what a graph may do between two looks, or in one launch of XLA.
_CAPACITY = 65_536
_LOCAL = ("DefaultDistributionStrategy", "MirroredStrategy", "OneDeviceStrategy", "CentralStorageStrategy")


class Graphs:
    def __init__(self) -> None:
        self.rings: dict[int | None, Ring] = {}
        self._numbers: dict[Hashable, int] = {}
        self.marks: list[Any] = []

    def write(self, mark: Hashable, value: Any) -> None:
        """Where the program runs, or in the graph that it is building. Raises TypeError or ValueError for what is no number."""
        number = self._numbers.get(mark)
        if number is None:
            number = len(self.marks)
            self.marks.append(mark)
            self._numbers[mark] = number
        self._ring().write(value, number)

    def refusal(self) -> str | None:
        """Why nothing may be written into the graph that is being built, in one sentence; None when it may."""
        graph = tf.compat.v1.get_default_graph()
        if not (isinstance(graph, tf.__internal__.FuncGraph) and tf.compat.v1.executing_eagerly_outside_functions()):
            return "losses in graphs of TensorFlow 1 and their sessions are not seen"
        if is_no_step(sys._getframe(1)):
            return "losses of single samples (tf.vectorized_map) and those that a tf.data pipeline computes are none of a step"
        strategy = tf.distribute.get_strategy()
        if type(strategy).__name__.lstrip("_") not in _LOCAL:
            return f"losses in graphs of {type(strategy).__name__} are not seen: they are computed elsewhere"
        if any(
            device.name.startswith("/job:") and not device.name.startswith("/job:localhost/")
            for device in tf.config.list_logical_devices()
        ):
            return "losses in graphs of a cluster are not seen: they are computed elsewhere"
        if control_flow_util.GraphOrParentsInXlaContext(graph) and not self._is_near():
            return "losses in functions that XLA compiles for a device other than the first are not seen"
        return None

    def _is_near(self) -> bool:
        """Whether the ring lies where the graph that is being built will run: XLA reaches for nothing on another device."""
        if tf.distribute.get_strategy().num_replicas_in_sync > 1:
            return False
        with tf.init_scope():
            return str(tf.constant(0.0).device) == self._ring().device

    def _ring(self) -> Ring:
        ident = threading.get_ident()
        # The replicas of a strategy are traced in threads of their own, one after the other, for the thread that trains.
        is_main = ident == threading.main_thread().ident or tf.distribute.get_strategy().num_replicas_in_sync > 1
        key = None if is_main else ident
        ring = self.rings.get(key)
        if ring is None:
            with tf.device(None):
                ring = self.rings[key] = Ring(_CAPACITY)
        return ring


#: Of this process.
GRAPHS = Graphs()
