"""GPTQ in NumPy, written from the definition of its layout: the oracle of src/weights.

    codes  qweight (in * bits / 32, out)      input i of output o: field i of column o
    zeros  qzeros  (groups, out * bits / 32)  output o of group g: field o of row g
    scales scales  (groups, out)              float16
    groups g_idx   (in)                       the group of each input

    W[o][i] = scales[g][o] * (code[i][o] - zero[g][o]),  g = g_idx[i]

Fields of 2, 3, 4 or 8 bits follow one another from the lowest bit of a word on; those of 3 bits may
begin in one word and end in the next.

Files of checkpoint_format "gptq" (v1) hold the zeros less one: for 2, 4 and 8 bits one subtraction
over the whole word with its borrows (0x11111111 for 4 bits), for 3 bits field by field; reading
adds it back. "gptq_v2" holds them as they are.
"""
import numpy as np

PACKED = {2: 16, 3: 32, 4: 8, 8: 8}  # both sizes of a weight are multiples of it
FORMATS = ("gptq", "gptq_v2")


def unpack_rows(words, bits=4):
    """(n, m) words to (32 n / bits, m) fields."""
    words = np.ascontiguousarray(words).view(np.uint32)
    each = np.arange(32, dtype=np.uint32)[None, :, None]
    stream = ((words[:, None, :] >> each) & np.uint32(1)).reshape(-1, bits, words.shape[1])
    return (stream << np.arange(bits, dtype=np.uint32)[None, :, None]).sum(axis=1, dtype=np.int32)


def pack_rows(fields, bits=4):
    """The inverse of unpack_rows; int32 as the files have it."""
    rows, columns = fields.shape
    if rows * bits % 32:
        raise ValueError(f"expected rows that fill words of 32 bits, found {rows} of {bits} bits")
    each = np.arange(bits, dtype=np.uint32)[None, :, None]
    stream = (fields.astype(np.uint32)[:, None, :] >> each) & np.uint32(1)
    stream = stream.reshape(rows * bits // 32, 32, columns)
    shifted = stream << np.arange(32, dtype=np.uint32)[None, :, None]
    return np.bitwise_or.reduce(shifted, axis=1).view(np.int32)


def word_correction(bits):
    """One in every field of a word."""
    return np.uint32(sum(1 << place for place in range(0, 32, bits)))


def unpack_zeros(qzeros, checkpoint_format, bits=4):
    """(groups, out) zero points."""
    words, v1 = np.asarray(qzeros).view(np.uint32), checkpoint_format == "gptq"
    if v1 and bits != 3:
        words = words + word_correction(bits)
    zeros = unpack_rows(words.T, bits).T
    return np.ascontiguousarray((zeros + 1) % 8 if v1 and bits == 3 else zeros)


def pack_zeros(zeros, checkpoint_format, bits=4):
    v1 = checkpoint_format == "gptq"
    stored = (zeros - 1) % 8 if v1 and bits == 3 else zeros
    words = np.ascontiguousarray(pack_rows(stored.T, bits).T).view(np.uint32)
    return (words - word_correction(bits) if v1 and bits != 3 else words).view(np.int32)


def group_of_input(in_features, group_size):
    """The g_idx of a file that has none; group_size -1 is one group for the row."""
    return np.arange(in_features, dtype=np.int32) // (in_features if group_size == -1
                                                      else group_size)


def code_offsets(tensors, checkpoint_format, bits=4):
    """(out, in) float32: code - zero, all that a weight is but for its scale."""
    codes = unpack_rows(tensors["qweight"], bits)
    zeros = unpack_zeros(tensors["qzeros"], checkpoint_format, bits)
    return np.ascontiguousarray((codes - zeros[tensors["g_idx"]]).T.astype(np.float32))


def decode(tensors, settings):
    """W (out, in) in float32 of a module's {qweight, qzeros, scales, g_idx}.

    An fp16 scale times an integer of 9 bits is exact in fp32: any correct decoder gives these bits.
    """
    scales = tensors["scales"].astype(np.float32)[tensors["g_idx"]].T
    offsets = code_offsets(tensors, settings["checkpoint_format"], settings["bits"])
    return np.ascontiguousarray(scales * offsets)


def encode(codes, zeros, scales, g_idx, settings):
    """codes (out, in), zeros and scales (out, groups) to the tensors of a file."""
    bits = settings["bits"]
    return {
        "qweight": pack_rows(codes.T, bits),
        "qzeros": pack_zeros(zeros.T, settings["checkpoint_format"], bits),
        "scales": np.ascontiguousarray(scales.T.astype(np.float16)),
        "g_idx": np.asarray(g_idx, dtype=np.int32),
    }


def module_tensors(tensors, module, settings):
    """The four arrays of a module out of {name: Tensor}; g_idx is derived where it is missing."""
    found = {part: tensors[f"{module}.{part}"].array for part in ("qweight", "qzeros", "scales")}
    g_idx = tensors.get(f"{module}.g_idx")
    in_features = found["qweight"].shape[0] * 32 // settings["bits"]
    found["g_idx"] = (g_idx.array if g_idx
                      else group_of_input(in_features, settings["group_size"]))
    return found


def modules_of(tensors):
    """Names of the quantized modules, in ascending order."""
    return sorted(name[: -len(".qweight")] for name in tensors if name.endswith(".qweight"))
