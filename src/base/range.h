/* Named ranges on the time line of NVIDIA's profilers, where their header is there (tools/profile
 * uses them); nothing elsewhere. The header loads a tool's library where one is attached and needs
 * no library of its own. */
#ifndef QZO_BASE_RANGE_H
#define QZO_BASE_RANGE_H

#if defined(QZO_HAVE_NVTX)
#include <nvtx3/nvToolsExt.h>
static inline void qzo_range_begin(const char *name) { nvtxRangePushA(name); }
static inline void qzo_range_end(void) { nvtxRangePop(); }
#else
static inline void qzo_range_begin(const char *name) { (void)name; }
static inline void qzo_range_end(void) {}
#endif

#endif
