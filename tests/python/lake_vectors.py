"""What every table of vectors promises."""

import hashlib

import lance
import numpy as np
import pyarrow as pa

QUERIES = 50
K = 10
# Two ways to sum up a product differ by this much.
ROUNDING = 1e-5
RECALL = 0.98


def vector_faults(table: str, dataset: lance.LanceDataset) -> list[str]:
    field = dataset.schema.field("vector")
    if field.nullable or not pa.types.is_fixed_size_list(field.type) or field.type.value_type != pa.float32():
        return [f"its vectors are {field.type}, not lists of float32 that are all there"]
    rows = dataset.to_table()
    vectors = np.stack(rows["vector"].to_numpy(zero_copy_only=False)) if len(rows) else np.zeros((0, 1))
    faults = []
    if strays := int((abs(np.linalg.norm(vectors, axis=1) - 1) > ROUNDING).sum()):
        faults.append(f"{strays} vectors are not of length 1")
    model = table.split("__")[1]
    if set(rows["model_id"].to_pylist()) - {model}:
        faults.append(f"some of its vectors are of other models than {model}")
    if "text_sha256" in rows.column_names:
        digests = [hashlib.sha256(text.encode()).digest() for text in rows["text"].to_pylist()]
        if digests != rows["text_sha256"].to_pylist():
            faults.append("some digests are not those of their texts")
    if len(rows) and (found := recall(dataset, vectors)) < RECALL:
        faults.append(f"{found:.4f} of the nearest {K} rows are found, not {RECALL}")
    return faults


def recall(dataset: lance.LanceDataset, vectors: np.ndarray) -> float:
    """How many rows are found that are at least as near as the last of the true nearest."""
    random = np.random.default_rng(1)
    k = min(K, len(vectors))
    recalls = []
    for row in random.integers(0, len(vectors), QUERIES):
        noise = random.normal(size=vectors.shape[1])
        query = vectors[row] + 0.1 * noise / np.linalg.norm(noise)
        query = (query / np.linalg.norm(query)).astype(np.float32)
        last = np.sort(vectors @ query)[-k]
        nearest = {"column": "vector", "q": query, "k": k, "metric": "cosine", "nprobes": 64}
        found = dataset.to_table(columns=["entity_id", "_distance"], nearest=nearest)
        near = (1 - found["_distance"].to_numpy() >= last - ROUNDING).sum()
        recalls.append(near / k)
    return float(np.mean(recalls))
