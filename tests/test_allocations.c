/* ctest: labels=unit */
/* The step loop allocates nothing. This program's own malloc family stands before the C library's
 * and counts while a real trial runs: from its 10th step to its 110th, journal included. */
#include "test_support.h"

#include "base/cpu.h"
#include "base/digest.h"
#include "trial/trial.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define COUNTING 0 /* the sanitizer's allocator is there already */
#else
#define COUNTING 1
#endif

enum { FIRST_STEP = 10, LAST_STEP = 110, STEPS = 120, PATH_BYTES = 4096 };

static atomic_long call_count;

#if COUNTING
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

void *malloc(size_t size) {
    atomic_fetch_add(&call_count, 1);
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
    atomic_fetch_add(&call_count, 1);
    return __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size) {
    atomic_fetch_add(&call_count, 1);
    return __libc_realloc(memory, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    atomic_fetch_add(&call_count, 1);
    return __libc_memalign(alignment, size);
}
#endif

typedef struct counter {
    long first, last;
} counter;

static bool never(void *context) {
    (void)context;
    return false;
}

static void nothing(void *context) { (void)context; }

static void note(void *context, const qzo_trial_progress *progress) {
    counter *c = context;
    if (progress->step == FIRST_STEP) c->first = atomic_load(&call_count);
    if (progress->step == LAST_STEP) c->last = atomic_load(&call_count);
}

/* Sets a spec over the tiny fixtures; digests are left zero, the trial does not ask for them. */
static void make_spec(qzo_trial_spec *spec, const char *rule) {
    qzo_trial_spec_defaults(spec);
    spec->model_path = strdup(qzo_test_fixture("tiny-llama"));
    spec->task_path = strdup(qzo_test_fixture("tiny-task.qzt"));
    spec->steps = STEPS;
    spec->samples_per_step = 3;
    spec->batch = 8;
    spec->micro_batch = 4;
    spec->evaluate_every = STEPS;
    spec->update_rule = rule;
    spec->clip_memory = 200; /* full after 67 steps */
    assert_ok(qzo_trial_spec_complete(spec));
}

static void hundred_steps_allocate_nothing(const char *backend_name, const char *rule) {
    if (!COUNTING) skip();
    char journal[PATH_BYTES], timing[PATH_BYTES], *folder = qzo_test_folder_create();
    snprintf(journal, sizeof journal, "%s/trial.qzj", folder);
    snprintf(timing, sizeof timing, "%s/timing.jsonl", folder);
    qzo_trial_spec spec = {0};
    qzo_backend *backend = NULL;
    qzo_comm *alone = NULL;
    qzo_workbench bench;
    counter counted = {-1, -1};
    qzo_outcome outcome = QZO_OUTCOME_FAILED;
    qzo_backend_options options = {.thread_count = 2};
    qzo_trial_files files = {journal, timing};
    qzo_trial_hooks hooks = {&counted, never, nothing, note, 0};
    make_spec(&spec, rule);
    assert_ok(qzo_backend_open(&backend, backend_name, &options));
    assert_ok(qzo_comm_local_open(&alone));
    qzo_workbench_init(&bench, backend);
    assert_ok(qzo_trial_run(&outcome, &spec, &bench, alone, &files, &hooks));
    assert_int_equal(outcome, QZO_OUTCOME_FINISHED);
    assert_true(counted.first > 0); /* loading allocates: the counter works */
    assert_int_equal(counted.last - counted.first, 0);
    qzo_workbench_release(&bench);
    qzo_comm_close(alone);
    qzo_backend_close(backend);
    qzo_trial_spec_release(&spec);
    qzo_test_folder_remove(folder);
}

static void steps_in_fp32_allocate_nothing(void **state) {
    (void)state;
    for (int rule = 0; qzo_update_rules[rule] != NULL; rule++)
        hundred_steps_allocate_nothing("cpu", qzo_update_rules[rule]->name);
}

static void steps_in_bf16_allocate_nothing(void **state) {
    (void)state;
    if (qzo_cpu() < QZO_CPU_AVX512) skip();
    hundred_steps_allocate_nothing("cpu-bf16", "plain");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_in_fp32_allocate_nothing),
        cmocka_unit_test(steps_in_bf16_allocate_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
