"""Random diffusion transformers of the published shapes of Stable Diffusion 3 and 3.5, for
make_random_checkpoint: names and shapes are those of diffusers' SD3Transformer2DModel.
"""
import numpy as np

PATCH, CHANNELS, TIME_WIDTH, HEAD_DIM = 2, 16, 256, 64
TEXT_WIDTH, POOLED_WIDTH, FFN = 4096, 2048, 4
MODULATION_SHARE = 0.1  # gates stay small, so that what a block adds does not outgrow the stream

# heads (as many as layers), side of the position table, blocks with a second attention, norms of q
# and k
SHAPES = {
    "sd3-medium": (24, 192, 0, False),
    "sd3.5-medium": (24, 384, 13, True),
    "sd3.5-large": (38, 192, 0, True),
}


def config_of(shape, layers):
    heads, side, dual, has_norms = shape
    config = {
        "_class_name": "SD3Transformer2DModel", "sample_size": 128, "patch_size": PATCH,
        "in_channels": CHANNELS, "out_channels": CHANNELS, "num_layers": layers,
        "num_attention_heads": heads, "attention_head_dim": HEAD_DIM,
        "caption_projection_dim": heads * HEAD_DIM, "joint_attention_dim": TEXT_WIDTH,
        "pooled_projection_dim": POOLED_WIDTH, "pos_embed_max_size": side,
    }
    if has_norms:
        config["qk_norm"] = "rms_norm"
    if dual:
        config["dual_attention_layers"] = list(range(min(dual, layers)))
    return config


def with_bias(tensors, module, outputs):
    return tensors | {f"{module}.bias": np.zeros(outputs, np.float16)}


def block_linears(width, is_last, is_dual):
    """(module, outputs, inputs). The last block has queries of its texts, which nothing reads."""
    linears = [("norm1.linear", (9 if is_dual else 6) * width, width),
               ("norm1_context.linear", (2 if is_last else 6) * width, width)]
    square = ["attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "attn.add_q_proj",
              "attn.add_k_proj", "attn.add_v_proj"]
    square += [] if is_last else ["attn.to_add_out"]
    square += [f"attn2.{name}" for name in ("to_q", "to_k", "to_v", "to_out.0") if is_dual]
    linears += [(name, width, width) for name in square]
    for name in ("ff",) if is_last else ("ff", "ff_context"):
        linears += [(f"{name}.net.0.proj", FFN * width, width),
                    (f"{name}.net.2", width, FFN * width)]
    return linears


def block_tensors(random, index, shape, layers, linear):
    heads, _, dual, has_norms = shape
    is_last, is_dual = index == layers - 1, index < dual
    prefix, tensors = f"transformer_blocks.{index}", {}
    for name, outputs, inputs in block_linears(heads * HEAD_DIM, is_last, is_dual):
        module = f"{prefix}.{name}"
        share = MODULATION_SHARE if name.startswith("norm") else 1.0
        tensors |= with_bias(linear(random, module, outputs, inputs, share), module, outputs)
    norms = ["attn.norm_q", "attn.norm_k", "attn.norm_added_q", "attn.norm_added_k"]
    norms += ["attn2.norm_q", "attn2.norm_k"] if is_dual else []
    for name in norms if has_norms else []:
        tensors[f"{prefix}.{name}.weight"] = np.ones(HEAD_DIM, np.float16)
    return tensors


def sinusoids(places, width):
    """(places, width): sines, then cosines, as diffusers' tables have them."""
    angles = np.outer(places, 10000.0 ** -(np.arange(width // 2) / (width // 2)))
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float16)


def position_table(side, width):
    """(1, side * side, width): half of a row says where it lies across, half how far down."""
    half = sinusoids(np.arange(side) * (64 / side), width // 2)
    table = np.empty((side, side, width), np.float16)
    table[:, :, : width // 2] = half[None, :, :]
    table[:, :, width // 2 :] = half[:, None, :]
    return table.reshape(1, side * side, width)


def end_tensors(random, shape, linear, dense):
    """What lies outside the blocks; the patches' convolution is never quantized."""
    heads, side = shape[:2]
    width, embedders, row = heads * HEAD_DIM, "time_text_embed", PATCH * PATCH * CHANNELS
    patches = dense(random, "pos_embed.proj", width, row)
    patches = {name: array.reshape(width, CHANNELS, PATCH, PATCH)
               for name, array in patches.items()}
    tensors = with_bias(patches, "pos_embed.proj", width)
    tensors["pos_embed.pos_embed"] = position_table(side, width)
    for module, outputs, inputs in (
            (f"{embedders}.timestep_embedder.linear_1", width, TIME_WIDTH),
            (f"{embedders}.timestep_embedder.linear_2", width, width),
            (f"{embedders}.text_embedder.linear_1", width, POOLED_WIDTH),
            (f"{embedders}.text_embedder.linear_2", width, width),
            ("context_embedder", width, TEXT_WIDTH), ("norm_out.linear", 2 * width, width),
            ("proj_out", row, width)):
        tensors |= with_bias(linear(random, module, outputs, inputs), module, outputs)
    return tensors
