/* Chunks of an evaluation cover the split in order, fill what they may, and fit the pack that the
 * trial makes room for. */
#include "test_support.h"

#include "trial/eval_chunks.h"
#include "trial/task_sizes.h"

#include <stdlib.h>

typedef struct fixture {
    qzo_task *task;
    qzo_trial_spec spec;
} fixture;

static int set_up(void **state) {
    fixture *f = calloc(1, sizeof *f);
    qzo_trial_spec_defaults(&f->spec);
    f->spec.micro_batch = 1;
    assert_ok(qzo_task_open(&f->task, qzo_test_fixture("tiny-task.qzt")));
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    qzo_task_close(f->task);
    qzo_trial_spec_release(&f->spec);
    free(f);
    return 0;
}

static int64_t tokens_of(const qzo_task_meter *meter, int64_t begin, int64_t end) {
    int64_t sum = 0;
    for (int64_t e = begin; e < end; e++) {
        qzo_pack_limits need;
        qzo_task_meter_read(&need, meter, e, false);
        sum += need.rows;
    }
    return sum;
}

static void check_chunks(const fixture *f, const qzo_split *split, const qzo_pack_limits *room) {
    qzo_eval_chunks chunks;
    qzo_task_meter meter;
    int64_t budget = f->spec.eval_tokens;
    assert_ok(qzo_eval_chunks_make(&chunks, split, &f->spec));
    assert_ok(qzo_task_meter_open(&meter, split));
    assert_int_equal(chunks.begin[0], 0);
    assert_int_equal(chunks.begin[chunks.count], split->example_count);
    for (int64_t c = 0; c < chunks.count; c++) {
        int64_t begin = chunks.begin[c], end = chunks.begin[c + 1];
        int64_t tokens = tokens_of(&meter, begin, end);
        assert_in_range(end - begin, 1, chunks.examples_max);
        assert_in_range(tokens, 1, room->rows);
        if (budget == 0) {
            assert_true(end - begin == f->spec.eval_batch || end == split->example_count);
            continue;
        }
        assert_true(tokens <= budget || end - begin == 1);
        if (end < split->example_count)
            assert_true(tokens + tokens_of(&meter, end, end + 1) > budget);
    }
    qzo_task_meter_close(&meter);
    qzo_eval_chunks_release(&chunks);
}

/* 1: every example is longer than that and comes alone. */
static void they_cover_and_fit(void **state) {
    fixture *f = *state;
    static const int64_t budgets[] = {0, 1, 40, 333, 100000};
    for (size_t b = 0; b < sizeof budgets / sizeof budgets[0]; b++) {
        qzo_pack_limits room;
        f->spec.eval_tokens = budgets[b];
        assert_ok(
            qzo_task_limits(&room, f->task, qzo_loss_find(f->task->loss), &f->spec, 0, false));
        check_chunks(f, &f->task->splits[QZO_SPLIT_DEV], &room);
        check_chunks(f, &f->task->splits[QZO_SPLIT_TEST], &room);
    }
}

static void the_room_is_what_the_largest_takes(void **state) {
    fixture *f = *state;
    qzo_pack_limits one, all;
    f->spec.eval_tokens = 1;
    assert_ok(qzo_task_limits(&one, f->task, qzo_loss_find(f->task->loss), &f->spec, 0, false));
    f->spec.eval_tokens = 1000000;
    assert_ok(qzo_task_limits(&all, f->task, qzo_loss_find(f->task->loss), &f->spec, 0, false));
    assert_int_equal(one.context, all.context);
    assert_true(one.rows * 10 < all.rows && one.options < 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(they_cover_and_fit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_room_is_what_the_largest_takes, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
