"""Small data sets in the form in which tfds keeps prepared ones, for what cannot be downloaded; made without TensorFlow."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FEATURES = "tensorflow_datasets.core.features."
LABEL = "class_label_feature.ClassLabel"


def label(classes: int) -> dict[str, Any]:
    return {"pythonClassName": FEATURES + LABEL, "classLabel": {"numClasses": str(classes)}}


def text() -> dict[str, Any]:
    return {"pythonClassName": FEATURES + "text_feature.Text", "text": {}}


def image(*shape: int) -> dict[str, Any]:
    own = {"dtype": "uint8", "shape": {"dimensions": [str(size) for size in shape]}}
    return {"pythonClassName": FEATURES + "image_feature.Image", "image": own}


def png(pixels: np.ndarray) -> bytes:
    kept = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(kept, "png")
    return kept.getvalue()


def _example(values: dict[str, bytes | int]) -> bytes:
    from tensorflow_datasets.proto import tf_example_generated_pb2 as example
    from tensorflow_datasets.proto import tf_feature_generated_pb2 as proto

    features = {
        name: proto.Feature(bytes_list=proto.BytesList(value=[value]))
        if isinstance(value, bytes)
        else proto.Feature(int64_list=proto.Int64List(value=[value]))
        for name, value in values.items()
    }
    return example.Example(features=proto.Features(feature=features)).SerializeToString()


def prepare(root: Path, name: str, features: dict[str, Any], splits: dict[str, list[dict[str, bytes | int]]]) -> None:
    """Writes root/name/1.0.0; of "glue/mnli", the second is the config of the first."""
    from array_record.python.array_record_module import ArrayRecordWriter

    folder = root / name / "1.0.0"
    folder.mkdir(parents=True)
    stem, _, config = name.partition("/")
    for split, rows in splits.items():
        writer = ArrayRecordWriter(str(folder / f"{stem}-{split}.array_record-00000-of-00001"), "group_size:1")
        for row in rows:
            writer.write(_example(row))
        writer.close()
    whole = {"pythonClassName": FEATURES + "features_dict.FeaturesDict", "featuresDict": {"features": features}}
    (folder / "features.json").write_text(json.dumps(whole))
    template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    stored = [
        {"filepathTemplate": template, "name": split, "numBytes": "1", "shardLengths": [str(len(rows))]}
        for split, rows in splits.items()
    ]
    info = {"fileFormat": "array_record", "name": stem, "version": "1.0.0", "splits": stored}
    (folder / "dataset_info.json").write_text(json.dumps(info | ({"configName": config} if config else {})))
