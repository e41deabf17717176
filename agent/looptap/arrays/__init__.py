"""Whose weights these are, by their content: the same in a file of any format, in a part of a checkpoint, and in memory.

The fingerprint of an array is the SHA-256 of its type, its sizes and its numbers; that of weights is the SHA-256 of the
fingerprints of their arrays, sorted, each once (:mod:`~looptap.arrays.fingerprints`). Names do not count, since programs rename
arrays where they move them (``module.…`` of a parallel model); nor does the order, nor whether two arrays share their memory.

``files`` has that of what lies in a file that a run wrote, by :mod:`~looptap.arrays.safetensors_files` or
:mod:`~looptap.arrays.torch_files`; ``modules`` that of a module that answers. Both run in threads of ours. Nothing is ever
unpickled, and what cannot be told has none: arrays that are not in one piece, on a device, of a type that only PyTorch knows.
"""
