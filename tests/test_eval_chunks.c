/* Chunks of an evaluation cover the split in order, fill what they may, and fit the pack that the
 * trial makes room for; what demonstrations take is counted once. */
#include "test_support.h"

#include "base/philox.h"
#include "trial/eval_chunks.h"
#include "trial/task_sizes.h"

#include <stdlib.h>

enum { PLAIN, SHOTS, TASKS, OPTIONS_MAX = 2 };

typedef struct fixture {
    qzo_task *tasks[TASKS];
    qzo_trial_spec spec;
} fixture;

static int set_up(void **state) {
    fixture *f = calloc(1, sizeof *f);
    qzo_trial_spec_defaults(&f->spec);
    f->spec.micro_batch = 1;
    assert_ok(qzo_task_open(&f->tasks[PLAIN], qzo_test_fixture("tiny-task.qzt")));
    assert_ok(qzo_task_open(&f->tasks[SHOTS], qzo_test_fixture("tiny-task-shots.qzt")));
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    for (int t = 0; t < TASKS; t++) qzo_task_close(f->tasks[t]);
    qzo_trial_spec_release(&f->spec);
    free(f);
    return 0;
}

static qzo_pack_limits limits_of(const fixture *f, const qzo_task *task, int64_t pair_rows_max) {
    qzo_pack_limits out;
    assert_ok(
        qzo_task_limits(&out, task, qzo_loss_find(task->loss), &f->spec, pair_rows_max, false));
    return out;
}

/* Packs the examples with the room that a trial has. */
static void pack_examples(qzo_pack *pack, const qzo_split *split, const int64_t *examples,
                          int64_t count) {
    qzo_pack_clear(pack);
    for (int64_t i = 0; i < count; i++) {
        const int32_t *rows[OPTIONS_MAX], *answers = NULL;
        int64_t lengths[OPTIONS_MAX];
        int64_t options = qzo_task_options(split, examples[i], false, rows, lengths, &answers);
        assert_in_range(options, 1, OPTIONS_MAX);
        assert_ok(qzo_pack_add(pack, options, rows, lengths, answers));
    }
    qzo_pack_finish(pack);
}

static int64_t pack_range(qzo_pack *pack, const qzo_split *split, int64_t begin, int64_t end) {
    int64_t *examples = calloc((size_t)(end - begin) + 1, sizeof *examples);
    for (int64_t e = begin; e < end; e++) examples[e - begin] = e;
    pack_examples(pack, split, examples, end - begin);
    free(examples);
    return pack->row_count;
}

/* A pack with room for the rows of a chunk and of one example more. */
static void create_roomy_pack(qzo_pack *out, const qzo_pack_limits *room) {
    qzo_pack_limits roomy = *room;
    roomy.rows += 100;
    roomy.places += room->places > 0 ? 100 : 0;
    roomy.gathers += 10, roomy.targets += 10, roomy.options += 10;
    assert_ok(qzo_pack_create(out, &roomy));
}

static void check_chunks(const fixture *f, const qzo_split *split, const qzo_pack_limits *room) {
    qzo_eval_chunks chunks;
    qzo_pack pack, roomy;
    int64_t budget = f->spec.eval_tokens;
    assert_ok(qzo_eval_chunks_make(&chunks, split, split, &f->spec));
    assert_ok(qzo_pack_create(&pack, room));
    create_roomy_pack(&roomy, room);
    assert_int_equal(chunks.begin[0], 0);
    assert_int_equal(chunks.begin[chunks.count], split->example_count);
    for (int64_t c = 0; c < chunks.count; c++) {
        int64_t begin = chunks.begin[c], end = chunks.begin[c + 1];
        int64_t tokens = pack_range(&pack, split, begin, end), places = pack.place_count;
        assert_in_range(end - begin, 1, chunks.examples_max);
        if (budget == 0) {
            assert_true(end - begin == f->spec.eval_batch || end == split->example_count);
            continue;
        }
        assert_true((tokens <= budget && places <= 8 * budget) || end - begin == 1);
        if (end < split->example_count)
            assert_true(pack_range(&roomy, split, begin, end + 1) > budget ||
                        roomy.place_count > 8 * budget);
    }
    qzo_pack_release(&pack);
    qzo_pack_release(&roomy);
    qzo_eval_chunks_release(&chunks);
}

/* 1: every example is longer than that and comes alone. */
static void they_cover_and_fit(void **state) {
    fixture *f = *state;
    static const int64_t budgets[] = {0, 1, 40, 70, 333, 100000};
    for (int t = 0; t < TASKS; t++)
        for (size_t b = 0; b < sizeof budgets / sizeof budgets[0]; b++) {
            f->spec.eval_tokens = budgets[b];
            const qzo_pack_limits room = limits_of(f, f->tasks[t], 0);
            check_chunks(f, &f->tasks[t]->splits[QZO_SPLIT_DEV], &room);
            check_chunks(f, &f->tasks[t]->splits[QZO_SPLIT_TEST], &room);
        }
}

static void the_room_is_what_the_largest_takes(void **state) {
    fixture *f = *state;
    f->spec.eval_tokens = 1;
    const qzo_pack_limits one = limits_of(f, f->tasks[PLAIN], 0);
    f->spec.eval_tokens = 1000000;
    const qzo_pack_limits all = limits_of(f, f->tasks[PLAIN], 0);
    assert_int_equal(one.context, all.context);
    assert_true(one.rows * 10 < all.rows && one.options < 10);
    assert_int_equal(all.places, 0);
}

/* All of dev in one chunk: a place for each row as if nothing was shared, and few rows. */
static void demonstrations_are_counted_once(void **state) {
    fixture *f = *state;
    f->spec.eval_tokens = 1000000;
    const qzo_pack_limits room = limits_of(f, f->tasks[SHOTS], 0);
    assert_true(room.places > 0 && room.rows * 3 < room.places);
    /* The first examples of a split are cut as they are in the whole. */
    f->spec.eval_tokens = 200;
    const qzo_split *dev = &f->tasks[SHOTS]->splits[QZO_SPLIT_DEV];
    qzo_split first = *dev;
    qzo_eval_chunks all, some;
    first.example_count = 1;
    assert_ok(qzo_eval_chunks_make(&all, dev, dev, &f->spec));
    assert_true(all.begin[1] > 200 / 60 + 1); /* rows of 60 tokens would not be that many */
    for (first.example_count = 1; first.example_count <= all.begin[1]; first.example_count++) {
        assert_ok(qzo_eval_chunks_make(&some, &first, dev, &f->spec));
        assert_int_equal(some.count, 1);
        qzo_eval_chunks_release(&some);
    }
    qzo_eval_chunks_release(&all);
}

/* Any examples in any order, some of them twice, and one that begins otherwise. */
static void any_batch_fits(void **state) {
    enum { BATCH = 7, ROUNDS = 300 };
    fixture *f = *state;
    qzo_task task = *f->tasks[SHOTS];
    task.splits[QZO_SPLIT_TRAIN] = task.splits[QZO_SPLIT_DEV];
    f->spec.micro_batch = BATCH;
    f->spec.eval_batch = 1;
    const qzo_split *train = &task.splits[QZO_SPLIT_TRAIN];
    qzo_pack_limits room = limits_of(f, &task, 1000000);
    assert_true(room.rows * 2 < room.places);
    assert_int_equal(room.pair_rows, room.rows);
    assert_int_equal(room.pair_places, room.places);
    qzo_pack pack;
    int64_t examples[BATCH], most = 0;
    assert_ok(qzo_pack_create(&pack, &room));
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < BATCH; i++)
            examples[i] = qzo_philox(3, round, i, QZO_PURPOSE_DATA).word[0] %
                          (round % 2 == 0 ? (uint32_t)train->example_count : 4u);
        pack_examples(&pack, train, examples, BATCH);
        if (pack.row_count > most) most = pack.row_count;
    }
    assert_true(most * 5 > room.rows * 4); /* the bound is not far off */
    qzo_pack_release(&pack);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(they_cover_and_fit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_room_is_what_the_largest_takes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(demonstrations_are_counted_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(any_batch_fits, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
