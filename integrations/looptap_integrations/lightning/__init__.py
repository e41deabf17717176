"""Lightning, as ``lightning.pytorch`` and as ``pytorch_lightning``."""

from looptap_integrations.lightning.integration import LightningIntegration, PytorchLightningIntegration

__all__ = ["LightningIntegration", "PytorchLightningIntegration"]
