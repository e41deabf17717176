"""Keras 3 on every backend, and tf-keras: what ``fit``, ``evaluate`` and ``predict`` do, model files, data sets."""

from looptap_integrations.keras.integration import KerasIntegration
from looptap_integrations.keras.tf_keras import TfKerasIntegration

__all__ = ["KerasIntegration", "TfKerasIntegration"]
