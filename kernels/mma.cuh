/* The one tensor-core instruction that kernels use: a warp's product of 16 x 16 and 16 x 8 halves
 * (or bfloats, as the first pointer says), added to 16 x 8 floats. All lanes must take part. What
 * lane `4 g + t` holds (PTX ISA, "Matrix Fragments for mma.m16n8k16"), two neighbours along the
 * inputs to a register:
 *
 *   a  rows g, g + 8, g, g + 8 at inputs 2t, 2t, 2t + 8, 2t + 8
 *   b  inputs 2t, 2t + 8 of column g
 *   d  row g at columns 2t, 2t + 1, then row g + 8 at the same
 *
 * A sum's order over the inputs is the device's, always the same one, and no column depends on
 * another. tests/emulator has a header of this name for the host. */
#ifndef QZO_KERNELS_MMA_CUH
#define QZO_KERNELS_MMA_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

static __device__ inline void mma(const __half *, float d[4], const uint32_t a[4],
                                  const uint32_t b[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

static __device__ inline void mma(const __nv_bfloat16 *, float d[4], const uint32_t a[4],
                                  const uint32_t b[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#endif
