"""GPTQ int4 in NumPy, written from the definition of its layout: the oracle of src/weights.

    codes  qweight (in / 8, out)      input i of output o: nibble i % 8 of word [i / 8][o]
    zeros  qzeros  (groups, out / 8)  output o of group g: nibble o % 8 of word [g][o / 8]
    scales scales  (groups, out)      float16
    groups g_idx   (in)               the group of each input

    W[o][i] = scales[g][o] * (code[i][o] - zero[g][o]),  g = g_idx[i]

Files of checkpoint_format "gptq" (v1) hold the words of zeros less 0x11111111, a subtraction over
whole words with their borrows; reading adds it back. "gptq_v2" holds them as they are.
"""
import numpy as np

BITS = 4
LANES = 32 // BITS
V1_ZERO_CORRECTION = np.uint32(0x11111111)
ZERO_CORRECTIONS = {"gptq": V1_ZERO_CORRECTION, "gptq_v2": np.uint32(0)}


def unpack_rows(words):
    """(n, m) words to (8 n, m) nibbles: lane l of a word is row 8 n + l."""
    words = np.asarray(words).view(np.uint32)
    shifts = (np.arange(LANES, dtype=np.uint32) * BITS)[None, :, None]
    nibbles = (words[:, None, :] >> shifts) & np.uint32(15)
    return nibbles.reshape(words.shape[0] * LANES, words.shape[1]).astype(np.int32)


def pack_rows(nibbles):
    """The inverse of unpack_rows; int32 as the files have it."""
    rows, columns = nibbles.shape
    if rows % LANES:
        raise ValueError(f"expected a multiple of {LANES} rows to pack, found {rows}")
    lanes = nibbles.astype(np.uint32).reshape(rows // LANES, LANES, columns)
    shifts = (np.arange(LANES, dtype=np.uint32) * BITS)[None, :, None]
    return np.bitwise_or.reduce(lanes << shifts, axis=1).view(np.int32)


def unpack_zeros(qzeros, checkpoint_format):
    """(groups, out) zero points."""
    words = np.asarray(qzeros).view(np.uint32) + ZERO_CORRECTIONS[checkpoint_format]
    return np.ascontiguousarray(unpack_rows(np.ascontiguousarray(words.T)).T)


def pack_zeros(zeros, checkpoint_format):
    words = np.ascontiguousarray(pack_rows(np.ascontiguousarray(zeros.T)).T).view(np.uint32)
    return (words - ZERO_CORRECTIONS[checkpoint_format]).view(np.int32)


def group_of_input(in_features, group_size):
    """The g_idx of a file that has none; group_size -1 is one group for the row."""
    return np.arange(in_features, dtype=np.int32) // (in_features if group_size == -1
                                                      else group_size)


def code_offsets(tensors, checkpoint_format):
    """(out, in) float32: code - zero, all that a weight is but for its scale."""
    codes = unpack_rows(tensors["qweight"])
    zeros = unpack_zeros(tensors["qzeros"], checkpoint_format)
    return np.ascontiguousarray((codes - zeros[tensors["g_idx"]]).T.astype(np.float32))


def decode(tensors, checkpoint_format):
    """W (out, in) in float32 of a module's {qweight, qzeros, scales, g_idx}.

    An fp16 scale times an integer of 5 bits is exact in fp32: any correct decoder gives these bits.
    """
    scales = tensors["scales"].astype(np.float32)[tensors["g_idx"]].T
    return np.ascontiguousarray(scales * code_offsets(tensors, checkpoint_format))


def encode(codes, zeros, scales, g_idx, checkpoint_format):
    """codes (out, in), zeros and scales (out, groups) to the tensors of a file."""
    return {
        "qweight": pack_rows(np.ascontiguousarray(codes.T)),
        "qzeros": pack_zeros(np.ascontiguousarray(zeros.T), checkpoint_format),
        "scales": np.ascontiguousarray(scales.T.astype(np.float16)),
        "g_idx": np.asarray(g_idx, dtype=np.int32),
    }


def module_tensors(tensors, module, group_size):
    """The four arrays of a module out of {name: Tensor}; g_idx is derived where it is missing."""
    found = {part: tensors[f"{module}.{part}"].array for part in ("qweight", "qzeros", "scales")}
    g_idx = tensors.get(f"{module}.g_idx")
    in_features = found["qweight"].shape[0] * LANES
    found["g_idx"] = g_idx.array if g_idx else group_of_input(in_features, group_size)
    return found


def modules_of(tensors):
    """Names of the quantized modules, in ascending order."""
    return sorted(name[: -len(".qweight")] for name in tensors if name.endswith(".qweight"))
