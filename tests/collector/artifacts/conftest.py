from collector.artifacts.servers import azurite, google, moto, s3rver

__all__ = ["azurite", "google", "moto", "s3rver"]
