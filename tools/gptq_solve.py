"""GPTQ's rounding (Frantar et al., arXiv 2210.17323) in NumPy, for small models.

Columns are rounded one after the other; the error of each is made good by those not rounded yet,
weighted by the inverse Hessian of the outputs, H = 2 X^T X over calibration rows. The inputs X of a
layer come from the layers before it as they are after rounding. Everything is plain loops over
columns and rows: a model of some billions of weights belongs to GPTQModel.
"""
import numpy as np

DAMPING = 0.01  # of the mean of the Hessian's diagonal
LINEARS = {"attention": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
           "output": ("self_attn.o_proj",), "mlp": ("mlp.gate_proj", "mlp.up_proj"),
           "down": ("mlp.down_proj",)}


def norm(x, weight, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def attention(query, key, value, config):
    """Causal attention of one row; query (tokens, heads * size), key and value with fewer heads."""
    tokens, heads = len(query), config["num_attention_heads"]
    size = query.shape[1] // heads
    parameters = config.get("rope_parameters") or {}
    theta = config.get("rope_theta", parameters.get("rope_theta", 10000.0))
    angles = np.arange(tokens)[:, None] / theta ** (np.arange(0, size, 2) / size)
    cos, sin = (np.tile(f(angles), 2)[:, None] for f in (np.cos, np.sin))

    def turned(y):
        swapped = np.concatenate((-y[..., size // 2 :], y[..., : size // 2]), -1)
        return y * cos + swapped * sin

    query = turned(query.reshape(tokens, heads, size))
    shared = key.shape[1] // size
    key = np.repeat(turned(key.reshape(tokens, shared, size)), heads // shared, 1)
    value = np.repeat(value.reshape(tokens, shared, size), heads // shared, 1)
    scores = np.einsum("ihd,jhd->hij", query, key) / size**0.5
    scores = np.where(np.tri(tokens, dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("hij,jhd->ihd", weights, value).reshape(tokens, heads * size)


def layer_forward(x, weights, prefix, config):
    """(output, the inputs of its linears) of one row x (tokens, hidden)."""
    eps, inputs = config["rms_norm_eps"], {}

    def linear(kind, index):
        return inputs[kind] @ weights[f"{prefix}.{LINEARS[kind][index]}.weight"].T

    inputs["attention"] = norm(x, weights[f"{prefix}.input_layernorm.weight"], eps)
    inputs["output"] = attention(*(linear("attention", i) for i in range(3)), config)
    x = x + linear("output", 0)
    inputs["mlp"] = norm(x, weights[f"{prefix}.post_attention_layernorm.weight"], eps)
    gate = linear("mlp", 0)
    inputs["down"] = gate / (1 + np.exp(-gate)) * linear("mlp", 1)
    return x + linear("down", 0), inputs


def hessians(rows, weights, prefix, config):
    """{kind of input: 2 X^T X} over all rows."""
    total = {}
    for x in rows:
        for kind, found in layer_forward(x, weights, prefix, config)[1].items():
            total[kind] = total.get(kind, 0) + 2 * found.T @ found
    return total


def inverse_root(hessian):
    """Upper U with U^T U = the inverse of the damped Hessian."""
    damped = hessian + DAMPING * np.diag(hessian).mean() * np.eye(len(hessian))
    return np.linalg.cholesky(np.linalg.inv(damped)).T


def solve(weight, hessian, group_size, desc_act, quantize_group, sym, bits):
    """Codes (out, in), zeros and scales (out, groups), g_idx (in) of W (out, in)."""
    columns = weight.shape[1]
    size = columns if group_size == -1 else group_size
    order = np.argsort(-np.diag(hessian), kind="stable") if desc_act else np.arange(columns)
    hessian = hessian[np.ix_(order, order)].copy()
    dead = np.diag(hessian) == 0
    hessian[dead, dead] = 1
    left = weight[:, order].astype(np.float64)
    left[:, dead] = 0
    root = inverse_root(hessian)
    codes, zeros, scales = np.zeros(weight.shape, np.int32), [], []
    for column in range(columns):
        if column % size == 0:
            members = left[:, column : column + size].astype(np.float32)
            _, zero, scale = quantize_group(members, sym, bits)
            zeros.append(zero)
            scales.append(scale)
        wide = scales[-1].astype(np.float64)
        code = np.clip(np.rint(left[:, column] / wide) + zeros[-1], 0, 2**bits - 1)
        error = (left[:, column] - (code - zeros[-1]) * wide) / root[column, column]
        left[:, column + 1 :] -= error[:, None] * root[column, column + 1 :]
        codes[:, order[column]] = code
    g_idx = np.empty(columns, np.int32)
    g_idx[order] = np.arange(columns) // size
    return codes, np.stack(zeros, 1), np.stack(scales, 1), g_idx
