"""TensorFlow: loops with a ``GradientTape``, eager and in graphs; summaries, model files, data sets."""

from looptap_integrations.tensorflow.integration import TensorFlowIntegration

__all__ = ["TensorFlowIntegration"]
