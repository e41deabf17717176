"""PyTorch: plain training loops of any shape."""

from looptap_integrations.torch.integration import TorchIntegration

__all__ = ["TorchIntegration"]
