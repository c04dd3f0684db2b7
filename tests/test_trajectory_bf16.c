/* Losses, projected gradients and twenty steps with products in bf16 beside fp32, and twice the
 * same bits. 77 (skipped) where the processor has no bf16. */
#include "trajectory_support.h"

/* Three bits less than fp16, whose bound is derived in docs/error-analysis-cuda.md. */
static const double BF16_LOG_PROB_ERROR = 8 * 0.02;

static void twenty_steps_stay_beside_fp32(void **state) {
    (void)state;
    trajectory_compare("cpu-bf16", BF16_LOG_PROB_ERROR, "BF16_LOG_PROB_ERROR");
}

static void twenty_steps_twice_are_the_same_bits(void **state) {
    (void)state;
    trajectory_repeat("cpu-bf16");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(twenty_steps_stay_beside_fp32),
        cmocka_unit_test(twenty_steps_twice_are_the_same_bits),
    };
    const qzo_backend_options options = {.thread_count = 1};
    qzo_backend *backend = NULL;
    if (qzo_backend_open(&backend, "cpu-bf16", &options) != QZO_OK) {
        print_message("skipped: %s\n", qzo_error_message());
        return 77;
    }
    qzo_backend_close(backend);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
