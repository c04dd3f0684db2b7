/* ctest: labels=gpu timeout=300 emulated
 * Losses, projected gradients and twenty steps on a device beside the CPU, and twice the same bits.
 * 77 (skipped) where there is no device. */
#include "trajectory_support.h"

#include "backend/cuda_module.h"

/* docs/error-analysis-cuda.md, "Whole models". */
static const double HALF_LOG_PROB_ERROR = 0.02;
static const double BF16_LOG_PROB_ERROR = 8 * 0.02; /* three bits less */

static void twenty_steps_stay_beside_the_cpu(void **state) {
    (void)state;
    trajectory_compare("cuda", HALF_LOG_PROB_ERROR, "HALF_LOG_PROB_ERROR");
    trajectory_compare("cuda-bf16", BF16_LOG_PROB_ERROR, "BF16_LOG_PROB_ERROR");
}

/* What differs from run to run of a device, an emulated one does not have. */
static void twenty_steps_twice_are_the_same_bits(void **state) {
    (void)state;
    if (getenv("QZO_TEST_EMULATED") != NULL) skip();
    trajectory_repeat("cuda");
    trajectory_repeat("cuda-bf16");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(twenty_steps_stay_beside_the_cpu),
        cmocka_unit_test(twenty_steps_twice_are_the_same_bits),
    };
    if (qzo_cuda_available() != QZO_OK) {
        print_message("skipped: %s\n", qzo_error_message());
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
