/* The CUDA runtime and the threads of a device, on the host: see cuda_runtime_api.h and
 * kernel_emulator.h. One thread of the host uses it at a time. */
#include "kernel_emulator.h"

#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <ucontext.h>
#include <vector>

/* --- memory --- */

static constexpr size_t DEVICE_BYTES = (size_t)16 << 30;
static constexpr int DEVICES = 4;
static constexpr size_t ALIGNMENT_BYTES = 256;
static constexpr int UNSET_BYTE = 0xff; /* what is read before it is written shows as NaN */

static std::map<uintptr_t, size_t> allocations;
static size_t allocated_bytes;
static cudaError_t launch_error; /* stays, as on a device */

bool emulator_is_device_memory(const void *memory, size_t size_bytes) {
    uintptr_t begin = reinterpret_cast<uintptr_t>(memory);
    auto next = allocations.upper_bound(begin);
    if (next == allocations.begin()) return false;
    --next;
    return begin + size_bytes <= next->first + next->second;
}

/* Wholly on the host; a piece of a device's allocation is none. */
static bool is_host_memory(const void *memory) { return !emulator_is_device_memory(memory, 1); }

static void *aligned_memory(size_t size_bytes) {
    size_t whole = (size_bytes + ALIGNMENT_BYTES - 1) / ALIGNMENT_BYTES * ALIGNMENT_BYTES;
    return std::aligned_alloc(ALIGNMENT_BYTES, whole > 0 ? whole : ALIGNMENT_BYTES);
}

cudaError_t cudaMalloc(void **out, size_t size_bytes) {
    if (size_bytes > DEVICE_BYTES - allocated_bytes) return cudaErrorMemoryAllocation;
    void *memory = aligned_memory(size_bytes);
    if (memory == nullptr) return cudaErrorMemoryAllocation;
    std::memset(memory, UNSET_BYTE, size_bytes);
    allocations[reinterpret_cast<uintptr_t>(memory)] = size_bytes;
    allocated_bytes += size_bytes;
    *out = memory;
    return cudaSuccess;
}

cudaError_t cudaFree(void *memory) {
    if (memory == nullptr) return cudaSuccess;
    auto found = allocations.find(reinterpret_cast<uintptr_t>(memory));
    if (found == allocations.end()) return cudaErrorInvalidValue;
    allocated_bytes -= found->second;
    allocations.erase(found);
    std::free(memory);
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **out, size_t size_bytes, unsigned) {
    *out = aligned_memory(size_bytes);
    return *out != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaFreeHost(void *memory) {
    std::free(memory);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes) {
    *total_bytes = DEVICE_BYTES;
    *free_bytes = DEVICE_BYTES - allocated_bytes;
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *out, const void *in, size_t size_bytes, cudaMemcpyKind kind,
                            cudaStream_t) {
    bool in_fits = kind == cudaMemcpyHostToDevice ? is_host_memory(in)
                                                  : emulator_is_device_memory(in, size_bytes);
    bool out_fits = kind == cudaMemcpyDeviceToHost ? is_host_memory(out)
                                                   : emulator_is_device_memory(out, size_bytes);
    if (launch_error != cudaSuccess) return launch_error;
    if (!in_fits || !out_fits) return cudaErrorInvalidValue;
    std::memcpy(out, in, size_bytes);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *out, int value, size_t size_bytes, cudaStream_t) {
    if (!emulator_is_device_memory(out, size_bytes)) return cudaErrorInvalidValue;
    std::memset(out, value, size_bytes);
    return launch_error;
}

/* --- device, streams, events --- */

const char *cudaGetErrorName(cudaError_t code) {
    switch (code) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorLaunchFailure: return "cudaErrorLaunchFailure";
    default: return "another error";
    }
}

const char *cudaGetErrorString(cudaError_t code) {
    return code == cudaErrorInvalidValue    ? "an argument is wrong"
           : code == cudaErrorLaunchFailure ? "a kernel failed"
                                            : cudaGetErrorName(code);
}

cudaError_t cudaGetLastError() { return launch_error; }

cudaError_t cudaDriverGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) { return cudaDriverGetVersion(version); }

/* Devices differ by their names alone. As on a real machine, a process may be shown fewer. */
cudaError_t cudaGetDeviceCount(int *count) {
    const char *visible = std::getenv("CUDA_VISIBLE_DEVICES");
    *count = visible == nullptr ? DEVICES : 1;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
    return device < DEVICES ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *out, int device) {
    *out = {};
    std::snprintf(out->name, sizeof out->name, "emulated on the host");
    out->major = 9;
    out->multiProcessorCount = 1;
    out->uuid.bytes[0] = (char)(device + 1);
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned) {
    *out = static_cast<cudaStream_t>(std::malloc(1));
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    std::free(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t) { return launch_error; }
cudaError_t cudaStreamQuery(cudaStream_t) { return launch_error; }

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned) {
    *out = static_cast<cudaEvent_t>(std::malloc(1));
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    std::free(event);
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return launch_error; }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return launch_error; }

/* --- threads --- */

/* Not a power of two: the stacks' tops would share few lines of the cache. */
static constexpr size_t STACK_BYTES = (128 << 10) + 17 * 64;
static constexpr unsigned WARP_LANES = 32, THREADS_MAX = 1024;

enum class place : unsigned char { RUNS, AT_BLOCK, AT_WARP, LEFT };

struct fiber {
    std::jmp_buf at;
    dim3 thread;
    unsigned exchange_count; /* shuffles and products */
    bool is_begun;
    uint64_t shuffled[2]; /* the next exchange leaves the last one alone */
    float a[2][8], b[2][4];
    char exchange[2]; /* its kind */
    ucontext_t begin;
};

dim3 gridDim, blockDim, blockIdx, threadIdx;

static fiber fibers[THREADS_MAX];
static place where[THREADS_MAX];
static unsigned running; /* of the fibers */
static std::jmp_buf scheduler, launch_begin;
static void (*kernel)(const void *of);
static const void *kernel_of;

[[noreturn]] static void refuse(const char *why) {
    std::fprintf(stderr, "emulated kernel, block (%u, %u), thread %u: %s\n", blockIdx.x, blockIdx.y,
                 threadIdx.x, why);
    std::abort();
}

static void wait_at(place at) {
    where[running] = at;
    if (_setjmp(fibers[running].at) == 0) _longjmp(scheduler, 1);
}

static void fiber_main() {
    for (;;) {
        kernel(kernel_of);
        wait_at(place::LEFT);
    }
}

static void resume(unsigned which) {
    fiber *next = &fibers[which];
    running = which;
    threadIdx = next->thread;
    if (_setjmp(scheduler) != 0) return;
    if (next->is_begun) _longjmp(next->at, 1);
    next->is_begun = true;
    setcontext(&next->begin);
}

void __syncthreads() { wait_at(place::AT_BLOCK); }

void __syncwarp(unsigned mask) {
    if (mask != 0xffffffffu) refuse("a barrier of a part of a warp");
    wait_at(place::AT_WARP);
}

void __trap() {
    launch_error = cudaErrorLaunchFailure;
    _longjmp(launch_begin, 1);
}

unsigned emulator_lane() { return running % WARP_LANES; }

/* Begins an exchange between the lanes of a warp: the side to write. */
static unsigned begin_exchange(char kind) {
    fiber *mine = &fibers[running];
    unsigned side = mine->exchange_count++ % 2;
    mine->exchange[side] = kind;
    return side;
}

/* A lane that took part in the running thread's exchange; it may be in its next one by now. */
static const fiber *other_lane(unsigned lane, unsigned side) {
    const fiber *mine = &fibers[running], *other = mine - emulator_lane() + lane;
    if (other->exchange_count - mine->exchange_count > 1 ||
        other->exchange[side] != mine->exchange[side])
        refuse("lanes meet in different exchanges");
    return other;
}

uint64_t emulator_shuffle(uint64_t value, unsigned mask, unsigned from_lane) {
    if (from_lane >= WARP_LANES) refuse("a shuffle from a lane that no warp has");
    unsigned side = begin_exchange('s');
    fibers[running].shuffled[side] = value;
    __syncwarp(mask);
    return other_lane(from_lane, side)->shuffled[side];
}

static void widen_pairs(float *out, const uint32_t *pairs, int count, float (*widen)(uint16_t)) {
    for (int i = 0; i < count; i++) {
        out[2 * i] = widen((uint16_t)(pairs[i] & 0xffffu));
        out[2 * i + 1] = widen((uint16_t)(pairs[i] >> 16));
    }
}

void emulator_mma(float d[4], const uint32_t a[4], const uint32_t b[2], float (*widen)(uint16_t)) {
    constexpr unsigned MEMBERS = 4; /* lanes that share a row of a or a column of b */
    unsigned side = begin_exchange('m'), group = emulator_lane() / MEMBERS;
    unsigned column = emulator_lane() % MEMBERS * 2;
    widen_pairs(fibers[running].a[side], a, 4, widen);
    widen_pairs(fibers[running].b[side], b, 2, widen);
    __syncwarp();
    const float *rows[MEMBERS], *columns[2][MEMBERS];
    for (unsigned m = 0; m < MEMBERS; m++) {
        rows[m] = other_lane(group * MEMBERS + m, side)->a[side];
        for (unsigned i = 0; i < 2; i++)
            columns[i][m] = other_lane((column + i) * MEMBERS + m, side)->b[side];
    }
    for (unsigned k = 0; k < 16; k++) {
        unsigned member = k % 8 / 2, pair = k / 8, half = k % 2;
        for (unsigned i = 0; i < 4; i++)
            d[i] += rows[member][4 * pair + 2 * (i / 2) + half] *
                    columns[i % 2][member][2 * pair + half];
    }
}

static unsigned count_at(place at, unsigned first, unsigned count) {
    unsigned found = 0;
    for (unsigned i = first; i < first + count; i++) found += where[i] == at;
    return found;
}

static void release(unsigned first, unsigned count) {
    for (unsigned i = first; i < first + count; i++) where[i] = place::RUNS;
}

/* Until each of its threads waits for the block or has left. */
static void run_warp(unsigned first, unsigned count, bool backwards) {
    for (;;) {
        for (unsigned i = 0; i < count; i++) {
            unsigned lane = first + (backwards ? count - 1 - i : i);
            if (where[lane] == place::RUNS) resume(lane);
        }
        unsigned waiting = count_at(place::AT_WARP, first, count);
        if (waiting == 0) return;
        if (waiting != WARP_LANES) refuse("a lane of its warp waits elsewhere or has left");
        release(first, count);
    }
}

static void run_block(unsigned thread_count, bool backwards) {
    unsigned warp_count = (thread_count + WARP_LANES - 1) / WARP_LANES;
    release(0, thread_count);
    for (unsigned i = 0; i < thread_count; i++) fibers[i].exchange_count = 0;
    for (;;) {
        for (unsigned w = 0; w < warp_count; w++) {
            unsigned first = (backwards ? warp_count - 1 - w : w) * WARP_LANES;
            run_warp(first, std::min(thread_count - first, WARP_LANES), backwards);
        }
        unsigned waiting = count_at(place::AT_BLOCK, 0, thread_count);
        if (waiting == 0) return;
        if (waiting != thread_count) refuse("a thread of its block has left before a barrier");
        release(0, thread_count);
    }
}

static void make_fibers() {
    static std::vector<char> stacks(THREADS_MAX * STACK_BYTES);
    for (unsigned i = 0; i < THREADS_MAX; i++) {
        getcontext(&fibers[i].begin);
        fibers[i].begin.uc_stack.ss_sp = &stacks[i * STACK_BYTES];
        fibers[i].begin.uc_stack.ss_size = STACK_BYTES;
        makecontext(&fibers[i].begin, fiber_main, 0);
        fibers[i].is_begun = false;
    }
}

void emulator_run(dim3 grid, dim3 block, void (*body)(const void *of), const void *of) {
    static bool has_fibers;
    unsigned thread_count = block.x * block.y * block.z;
    if (launch_error != cudaSuccess) return;
    if (thread_count == 0 || thread_count > THREADS_MAX || grid.y > 65535 || grid.z > 65535 ||
        grid.x * grid.y * grid.z == 0) {
        launch_error = cudaErrorInvalidValue;
        return;
    }
    if (!has_fibers) make_fibers();
    has_fibers = _setjmp(launch_begin) == 0; /* a thread that traps leaves all others behind */
    if (!has_fibers) return;
    gridDim = grid, blockDim = block;
    kernel = body, kernel_of = of;
    for (unsigned i = 0; i < thread_count; i++)
        fibers[i].thread = dim3(i % block.x, i / block.x % block.y, i / block.x / block.y);
    bool backwards = false;
    for (blockIdx.z = 0; blockIdx.z < grid.z; blockIdx.z++)
        for (blockIdx.y = 0; blockIdx.y < grid.y; blockIdx.y++)
            for (blockIdx.x = 0; blockIdx.x < grid.x; blockIdx.x++, backwards = !backwards)
                run_block(thread_count, backwards);
}
