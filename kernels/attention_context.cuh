/* The rows that a row attends to, counted from 0 in the order of backend.h: a shared prefix, then
 * its own. */
#ifndef QZO_KERNELS_ATTENTION_CONTEXT_CUH
#define QZO_KERNELS_ATTENTION_CONTEXT_CUH

#include "kernels/device_common.cuh"

struct context {
    int64_t prefix_begin, prefix_count, own_begin, first, count; /* indices first .. count - 1 */
};

static __device__ inline context context_of(const qzo_cuda_attention &attention, int64_t row) {
    context c;
    c.prefix_begin = attention.prefix_begin[row];
    c.prefix_count = attention.prefix_end[row] - c.prefix_begin;
    c.own_begin = attention.own_begin[row];
    int64_t own_end = attention.own_end != nullptr ? attention.own_end[row] : row + 1;
    c.count = c.prefix_count + own_end - c.own_begin;
    QZO_CUDA_CHECK(row >= 0 && c.own_begin >= 0 && c.own_begin <= own_end);
    QZO_CUDA_CHECK(c.prefix_count == 0 || (c.prefix_count > 0 && c.prefix_begin >= 0));
    QZO_CUDA_CHECK(attention.own_end != nullptr ||
                   (c.own_begin <= row && c.prefix_begin + c.prefix_count <= row + 1));
    c.first = attention.window > 0 ? max(c.count - attention.window, (int64_t)0) : 0;
    return c;
}

static __device__ inline int64_t context_row(const context &c, int64_t index) {
    return index < c.prefix_count ? c.prefix_begin + index : c.own_begin + index - c.prefix_count;
}

#endif
