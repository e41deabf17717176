"""Pipelines of tf.data and tensors: what they are made of, and what identifies it; nothing is iterated."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import tensorflow as tf

from integrations.recording import Recording, recorded
from looptap.describing import Description
from looptap.fingerprints import Files
from looptap_integrations.numpy_files import NumpyFilesIntegration
from looptap_integrations.tensorflow import TensorFlowIntegration

X, Y = numpy.arange(60, dtype="float32").reshape(20, 3), numpy.arange(20)
Dataset = tf.data.Dataset


@pytest.fixture
def record() -> Iterator[Recording]:
    with recorded(TensorFlowIntegration, NumpyFilesIntegration) as recording:
        yield recording


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    paths = [str(tmp_path / "records" / f"{number}.tfrecord") for number in range(3)]
    os.mkdir(tmp_path / "records")
    for path in paths:
        with tf.io.TFRecordWriter(path) as writer:
            writer.write(path.encode())
    return paths


def test_a_pipeline(record: Recording) -> None:
    """Its element spec, its length, what is done with it and its options."""
    options = tf.data.Options()
    options.deterministic = False
    options.threading.private_threadpool_size = 2
    pipeline = (
        Dataset.from_tensor_slices({"x": X, "y": Y})
        .shuffle(20, seed=1)
        .repeat(3)
        .batch(4, drop_remainder=True)
        .map(lambda item: item, num_parallel_calls=2)
        .prefetch(tf.data.AUTOTUNE)
        .with_options(options)
    )
    told = record.describers.describe(pipeline)
    assert (told.name, told.kind, told.class_name, told.length) == (
        "from_tensor_slices",
        "tf.data",
        "tensorflow.data.Dataset",
        20,
    )
    assert told.schema == {"x": {"shape": [4, 3], "dtype": "float32"}, "y": {"shape": [4], "dtype": "int64"}}
    assert told.details["operations"][1:] == [
        "shuffle(20)",
        "repeat(3)",
        "batch(4)",
        told.transform,
        "prefetch(auto)",
        "with_options",
    ]
    assert told.transform is not None
    assert told.transform.endswith("test_a_pipeline.<locals>.<lambda>)")
    assert {key: told.details[key] for key in ("cardinality", "batch_size", "options")} == {
        "cardinality": 15,
        "batch_size": 4,
        "options": {"deterministic": False, "threading.private_threadpool_size": 2},
    }


def prints(told: Description) -> list[Any]:
    assert told.missing is None
    return told.parts


def test_what_identifies_arrays(record: Recording) -> None:
    """Their content, as of the same arrays elsewhere; and which items were chosen, but not how they are shuffled or batched."""
    describe = record.describers.describe
    whole = Dataset.from_tensor_slices((X, Y))
    same = [*prints(describe(X)), *prints(describe(Y))]
    assert prints(describe(whole)) == prints(describe(whole.shuffle(9).batch(2).prefetch(1))) == same
    assert prints(describe(tf.constant(X))) == same[:1]
    assert prints(describe(Dataset.zip((Dataset.from_tensor_slices(X), Dataset.from_tensor_slices(Y))))) == same
    chosen = [
        whole,
        whole.take(5),
        whole.take(6),
        whole.skip(5),
        whole.shard(2, 0),
        whole.shard(2, 1),
        whole.filter(lambda x, y: y > 3),
        whole.filter(lambda x, y: y < 3),
        whole.concatenate(whole),
    ]
    assert len({tuple(prints(describe(one))) for one in chosen}) == len(chosen)
    lengths = [describe(one).length for one in (whole.batch(3), whole.take(5).batch(2), whole.batch(3).take(2))]
    assert lengths == [20, 5, None]
    texts = [f"text {number}" for number in range(500)]
    changed = [*texts[:-1], "another"]
    assert prints(describe(Dataset.from_tensor_slices(texts))) != prints(describe(Dataset.from_tensor_slices(changed)))


def test_files(record: Recording, files: list[str], tmp_path: Path) -> None:
    """Those that are read and no others, wherever in the pipeline their names are."""
    describe, folder = record.describers.describe, str(tmp_path / "records")
    names = ("0.tfrecord", "1.tfrecord", "2.tfrecord")
    one = describe(tf.data.TFRecordDataset(files[0]).batch(2))
    assert (one.name, one.root, one.parts) == ("TFRecordDataset", files[0], [Files(files[0])])
    two = describe(tf.data.TFRecordDataset(files[:2], num_parallel_reads=2).cache())
    assert (two.name, two.root, two.parts) == ("TFRecordDataset", folder, [Files(folder, only=names[:2])])
    assert (two.details["files"], two.details["endings"]) == (2, [".tfrecord"])
    listed = Dataset.list_files(f"{folder}/*.tfrecord", shuffle=True)
    for pipeline in (listed, listed.interleave(tf.data.TFRecordDataset, num_parallel_calls=2)):
        many = describe(pipeline)
        assert (many.name, many.root) == ("records", folder)
        (part,) = many.parts
        assert isinstance(part, Files)
        assert set(part.only) == set(names)
    Dataset.from_tensor_slices(X).save(str(tmp_path / "saved"))
    assert describe(Dataset.load(str(tmp_path / "saved"))).parts == [Files(str(tmp_path / "saved"))]
    away = describe(tf.data.TextLineDataset(["gs://bucket/a.txt?sig=1", "gs://bucket/b.txt?sig=2"]))
    other = describe(tf.data.TextLineDataset(["gs://bucket/a.txt?sig=3", "gs://bucket/b.txt?sig=4"]))
    assert away.parts == other.parts
    assert away.parts[0].covers == "urls"  # type: ignore[union-attr]


def test_pictures_of_a_folder(record: Recording, tmp_path: Path) -> None:
    """Keras lists them in another order each time; they are the same pictures with the same labels."""
    import keras

    pytest.importorskip("PIL", reason="Keras writes pictures with it")
    for label in "ab":
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for number in range(5):
            keras.utils.save_img(tmp_path / "pictures" / label / f"{number}.png", numpy.zeros((4, 4, 3)))
    found = [
        record.describers.describe(
            keras.utils.image_dataset_from_directory(
                tmp_path / "pictures", image_size=(4, 4), batch_size=2, seed=seed, verbose=False
            )
        )
        for seed in range(3)
    ]
    assert [(one.name, one.length, one.details["files"]) for one in found] == [("pictures", 10, 10)] * 3
    labels = {one.parts[1] for one in found}
    assert len(labels) == 1
    assert {tuple(sorted(one.parts[0].only)) for one in found} == {  # type: ignore[union-attr]
        tuple(f"{label}/{number}.png" for label in "ab" for number in range(5))
    }


def test_what_is_not_known(record: Recording) -> None:
    """Data that functions make has no fingerprint, and says why; a counter is none of the data."""
    made = Dataset.from_generator(lambda: iter([1]), output_signature=tf.TensorSpec((), tf.int32))
    counted = Dataset.range(5).map(lambda number: number * 2)
    for pipeline in (made, counted, Dataset.random(1), Dataset.from_tensors(0).repeat()):
        told = record.describers.describe(pipeline)
        assert told.parts == []
        assert told.missing
    told = record.describers.describe(made.batch(2))
    assert (told.name, told.details["operations"]) == ("from_generator", ["from_generator", "batch(2)"])
    mixed = Dataset.sample_from_datasets([Dataset.from_tensor_slices(X), Dataset.from_tensor_slices(X + 1)])
    assert len(prints(record.describers.describe(mixed))) == 3


def test_inside_a_graph(record: Recording) -> None:
    """There nothing has a value, and nothing is added to the graph."""
    told: list[Description] = []

    @tf.function(autograph=False)
    def traced(size: Any) -> Any:
        pipeline = Dataset.range(3).batch(tf.cast(size, tf.int64))
        before = len(tf.compat.v1.get_default_graph().get_operations())
        told.append(record.describers.describe(pipeline))
        told.append(record.describers.describe(size))
        assert len(tf.compat.v1.get_default_graph().get_operations()) == before
        return size

    traced(tf.constant(2))
    assert [one.details.get("batch_size") for one in told] == [None, None]
    assert told[1].missing == "only tensors in the memory of the host are looked into"
