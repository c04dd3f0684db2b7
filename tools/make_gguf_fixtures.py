#!/usr/bin/env python3
"""Makes tests/fixtures/gguf: small GGUF files as llama.cpp's converter writes them, OUT.

    OUT/NAME/{model.gguf, expected.safetensors}

The files are written by llama.cpp's own package `gguf`, which also quantizes Q4_0 and Q8_0; it has
no quantizer of Q4_K and Q6_K, whose blocks are drawn: any bits are valid codes and sub-scales.
expected.safetensors holds ids, logits and some weights by transformers in float32, which decodes
the file with that package and undoes the converter's order of rows by itself; the model's config is
the one that the file was made of, so that the metadata counts too.
Seeded; some seconds. Needs requirements-oracle.txt and gguf (docs/oracles.md has the version).
"""
import argparse
import shutil
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf.constants import GGMLQuantizationType as Type
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

import tensor_file
import tiny_language
from make_arch_fixtures import LENGTH, VOCAB, greedy, randomize

KEPT, KEPT_BYTES = ("q_proj.weight", "v_proj.weight", "up_proj.weight"), 150000  # decoded weights
SMALL = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=1, num_attention_heads=4,
             num_key_value_heads=2, vocab_size=VOCAB, max_position_embeddings=64)
SUPER = dict(SMALL, hidden_size=256, intermediate_size=256, head_dim=32, num_key_value_heads=1)
LLAMA3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 32}

# name: model_type, settings or a folder, types by the ends of names: the first that fits.
MODELS = {
    "tiny-llama-q4_0": ("llama", "tiny-llama-fp32",
                        {"embed_tokens": "Q8_0", "lm_head": "Q8_0", "": "Q4_0"}),
    "llama-q4_k_m": ("llama", dict(SUPER, rope_parameters=LLAMA3, tie_word_embeddings=True),
                     {"embed_tokens": "Q6_K", "v_proj": "Q6_K", "down_proj": "Q6_K",
                      "o_proj": "Q8_0", "": "Q4_K"}),
    "qwen2-q8_0": ("qwen2", dict(SMALL, tie_word_embeddings=True),
                   {"embed_tokens": "F16", "": "Q8_0"}),
    "qwen3-q4_0": ("qwen3", dict(SMALL, head_dim=32, tie_word_embeddings=False),
                   {"embed_tokens": "Q4_0", "lm_head": "BF16", "o_proj": "F16", "": "Q4_0"}),
    "llama-f16": ("llama", dict(
        SMALL, hidden_size=32, attention_bias=True, tie_word_embeddings=False,
        rope_parameters={"rope_type": "linear", "rope_theta": 5000.0, "factor": 2.5}),
        {"": "F16"}),
}
BLOCKS = {"Q4_K": 144, "Q6_K": 210}


def draw_blocks(kind, rows, columns, draw):
    """(rows, bytes): weights of a trained model's spread."""
    count, size = rows * columns // 256, 0.9 / columns**0.5
    blocks = draw.integers(0, 256, (count, BLOCKS[kind]), dtype=np.uint8)
    unit = draw.uniform(0.7, 1.3, (count, 1)) * size
    if kind == "Q4_K":  # s and m up to 63, codes up to 15: d s q - dmin m lies around 0
        d, dmin = unit / 220, 7.5 * unit / 220
        blocks[:, :4] = np.concatenate([d, dmin], axis=1).astype(np.float16).view(np.uint8)
    else:  # signs of both kinds, in d and in the sub-scales
        signs = draw.choice((-1, 1), (count, 16))
        scales = signs * draw.integers(20, 41, (count, 16))
        blocks[:, 192:208] = scales.astype(np.int8).view(np.uint8)
        d = draw.choice((-1, 1), (count, 1)) * unit / 550
        blocks[:, 208:] = d.astype(np.float16).view(np.uint8)
    return blocks.reshape(rows, -1)


def stored_rows(name, array, config):
    """llama.cpp's order of the rows of q and k: pairs of a head beside each other."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    count = heads.get(name.split(".")[-2])
    if count is None or config.model_type != "llama":
        return array
    halves = array.reshape(count, 2, array.shape[0] // count // 2, *array.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(array.shape))


def type_of(name, array, types):
    module = name.removesuffix(".weight")
    return "F32" if array.ndim == 1 else next(t for end, t in types.items() if module.endswith(end))


def add_metadata(writer, config):
    heads = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    rope = config.rope_parameters
    writer.add_rope_freq_base(rope["rope_theta"])
    if config.model_type == "llama":
        writer.add_rope_dimension_count(heads)
        writer.add_vocab_size(config.vocab_size)
    if heads * config.num_attention_heads != config.hidden_size:
        writer.add_key_length(heads)
        writer.add_value_length(heads)
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_factors(rope, heads))
    writer.add_quantization_version(2)
    writer.add_tokenizer_model("llama")
    words = ["\u2581" + word for word in tiny_language.WORDS[len(tiny_language.SPECIAL):]]
    writer.add_token_list([*tiny_language.SPECIAL, *words])
    writer.add_token_types([2, 3, 3] + [1] * (VOCAB - 3))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def llama3_factors(rope, head_dim):
    """What the converter writes: the frequency before over the one after."""
    frequency = rope["rope_theta"] ** -(np.arange(0, head_dim, 2) / head_dim)
    length = 2 * np.pi / frequency
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    original = rope["original_max_position_embeddings"]
    smooth = np.clip((original / length - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / rope["factor"] + smooth)).astype(np.float32)


def write(path, model, types, seed):
    config, draw = model.config, np.random.default_rng(seed)
    names = gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, config.model_type.upper()),
                                     config.num_hidden_layers)
    writer = gguf.GGUFWriter(path, config.model_type)
    add_metadata(writer, config)
    for name, parameter in model.named_parameters():
        array = stored_rows(name, parameter.detach().numpy(), config)
        kind = Type[type_of(name, array, types)]
        if kind.name in BLOCKS:
            data = draw_blocks(kind.name, *array.shape, draw)
        elif kind == Type.F16:
            data = array.astype(np.float16)
        else:
            data = gguf.quants.quantize(array, kind)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), data,
                          raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def open_source(given, fixtures, seed):
    model_type, source, _ = given
    torch.manual_seed(0)
    if isinstance(source, str):
        return AutoModelForCausalLM.from_pretrained(fixtures / source, dtype=torch.float32,
                                                    attn_implementation="eager").eval()
    config = AutoConfig.for_model(model_type, **source)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    randomize(model, seed)
    return model


def make(out, name, seed):
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model = open_source(MODELS[name], out.parent, seed)
    write(folder / "model.gguf", model, MODELS[name][2], seed)
    found = load_gguf_checkpoint(folder / "model.gguf", return_tensors=True, model_to_load=model)
    tensors = {key: torch.as_tensor(value).float() for key, value in found["tensors"].items()}
    if model.config.tie_word_embeddings:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    model.load_state_dict(tensors)
    ids = np.random.default_rng(seed).integers(0, VOCAB, LENGTH)
    expected = {key: value.numpy() for key, value in tensors.items()
                if key.endswith(KEPT) and value.numpy().nbytes <= KEPT_BYTES}
    with torch.no_grad():
        expected["logits"] = model(torch.from_numpy(ids)[None]).logits[0].numpy()
    expected["ids"] = ids.astype(np.int32)
    tensor_file.write(folder / "expected.safetensors", expected,
                      {"decoder": "gguf, transformers", "logits": "transformers, float32",
                       "greedy": greedy(model, ids)})
    sizes = [path.stat().st_size for path in sorted(folder.iterdir())]
    print(f"{name}: {sizes} bytes, logits up to {np.abs(expected['logits']).max():.3g}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for seed, name in enumerate(MODELS, start=1):
        make(given.out, name, seed)


if __name__ == "__main__":
    main()
