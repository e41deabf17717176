"""What the run was given, as params: processors, memory, the kind of machine, and what a batch system or a cluster says in the
environment. Nobody is asked over a network."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from looptap.resources import cpus
from looptap.resources.cgroups import Groups
from looptap.resources.reader import Reader, Subject

_SLURM = {
    "job_id": ("SLURM_JOB_ID",),
    "job_name": ("SLURM_JOB_NAME",),
    "cluster": ("SLURM_CLUSTER_NAME",),
    "partition": ("SLURM_JOB_PARTITION",),
    "account": ("SLURM_JOB_ACCOUNT",),
    "qos": ("SLURM_JOB_QOS",),
    "nodes": ("SLURM_JOB_NUM_NODES", "SLURM_NNODES"),
    "nodelist": ("SLURM_JOB_NODELIST", "SLURM_NODELIST"),
    "tasks": ("SLURM_NTASKS",),
    "cpus_per_task": ("SLURM_CPUS_PER_TASK",),
    "memory_per_node": ("SLURM_MEM_PER_NODE",),
    "gpus_on_node": ("SLURM_GPUS_ON_NODE",),
    "array_task": ("SLURM_ARRAY_TASK_ID",),
}
#: Names that pods give to what the downward API tells them; those of the examples of Kubernetes begin with MY_.
_KUBERNETES = {
    "pod": ("POD_NAME", "MY_POD_NAME", "K8S_POD_NAME"),
    "namespace": ("POD_NAMESPACE", "MY_POD_NAMESPACE", "K8S_NAMESPACE"),
    "node": ("NODE_NAME", "MY_NODE_NAME", "K8S_NODE_NAME"),
}
_NAMESPACE = "var/run/secrets/kubernetes.io/serviceaccount/namespace"
_SAGEMAKER = "SM_CURRENT_INSTANCE_TYPE"
#: There the name of the product is the type of the instance.
_EC2 = "Amazon EC2"


class AllotmentReader(Reader):
    """Has no metrics, only params."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def open(self, subject: Subject) -> None:
        self._environment = subject.environment
        self._groups = Groups(root=self._root)

    def allotted(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "allotted.cpus": cpus.allowed(self._groups),
            "allotted.cpu_affinity": cpus.affinity(),
            "allotted.memory": psutil.virtual_memory().total,
        }
        if (quota := self._groups.cpu_quota) is not None:
            found["allotted.cpu_quota"] = quota[1]
        if (limit := self._groups.memory_limit) is not None:
            found["allotted.memory"] = min(limit[1], found["allotted.memory"])
        return {**found, **self._machine(), **self._cluster()}

    def read(self, now: float) -> dict[str, float]:
        return {}

    def _machine(self) -> dict[str, str]:
        vendor, product = (self._text(f"sys/class/dmi/id/{name}") for name in ("sys_vendor", "product_name"))
        kind = self._environment.get(_SAGEMAKER) or (product if vendor == _EC2 else "")
        told = {"allotted.instance_type": kind, "allotted.machine": f"{vendor} {product}".strip()}
        return {key: value for key, value in told.items() if value}

    def _cluster(self) -> dict[str, str]:
        found = {}
        if "SLURM_JOB_ID" in self._environment:
            found = _said(self._environment, "slurm", _SLURM)
        if "KUBERNETES_SERVICE_HOST" in self._environment:
            namespace = self._text(_NAMESPACE)
            known = {"allotted.kubernetes.namespace": namespace} if namespace else {}
            # The name of the host is that of the pod, unless somebody has chosen another.
            host = {"allotted.kubernetes.pod": socket.gethostname()}
            found |= {**host, **known, **_said(self._environment, "kubernetes", _KUBERNETES)}
        return found

    def _text(self, path: str) -> str:
        try:
            return (self._root / path).read_text("utf-8", "replace").strip()
        except OSError:
            return ""


def _said(environment: Mapping[str, str], group: str, names: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Of several variables for the same, the first that says something."""
    told = {
        key: next((environment[name] for name in several if environment.get(name)), None)
        for key, several in names.items()
    }
    return {f"allotted.{group}.{key}": value for key, value in told.items() if value is not None}
