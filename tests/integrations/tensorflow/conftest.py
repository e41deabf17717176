"""Two devices for those tests that train on several, before anything uses TensorFlow; and a recorder for each test."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import tensorflow as tf

from integrations.recording import Recording, recorded
from looptap_integrations.tensorflow import TensorFlowIntegration

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


@pytest.fixture
def record() -> Iterator[Recording]:
    tf.random.set_seed(0)
    gc.collect()  # functions of the test before, which were traced while nobody watched
    with recorded(TensorFlowIntegration) as recording:
        yield recording
        assert recording.refused == []
