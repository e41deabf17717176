"""What the run was given, and what it uses of it: processors, memory, disks, network, GPUs, energy.

:class:`Reader` is what a source of figures is; the sampler asks all of them regularly.
"""

from looptap.resources.reader import Absent, Metric, Reader, Subject, Unreadable

__all__ = ["Absent", "Metric", "Reader", "Subject", "Unreadable"]
