/* Packs: every target's row must see exactly the tokens before it, each token stored once, and
 * nothing be asked for twice. Checked on drawn questions by reading the pack back, of packs whose
 * questions share rows too. */
#include "test_support.h"

#include "base/philox.h"
#include "model/pack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* HEAD_MAX: rows before a question, of which a pack with places computes each once. */
enum { OPTIONS_MAX = 6, OWN_MAX = 12, HEAD_MAX = 2 * QZO_SHARED_ROWS_MIN };
enum { LENGTH_MAX = HEAD_MAX + OWN_MAX, QUESTIONS = 5, ROUNDS = 700 };

typedef struct question {
    int64_t option_count;
    int32_t storage[OPTIONS_MAX][LENGTH_MAX];
    const int32_t *tokens[OPTIONS_MAX];
    int64_t lengths[OPTIONS_MAX];
    int32_t answer_tokens[OPTIONS_MAX];
} question;

static uint32_t draw_counter;

static uint32_t drawn(uint32_t below) {
    return qzo_philox(1, draw_counter++, 0, QZO_PURPOSE_DATA).word[0] % below;
}

/* Three words and short rows: prefixes of all lengths, equal options and nested ones come often.
 * Before them stand `head` rows: zeros, but for a one here and there, so that heads part at several
 * places. */
static void draw_question(question *out, int64_t head) {
    int64_t odd = drawn(2) == 0 ? drawn(HEAD_MAX) : HEAD_MAX;
    out->option_count = 1 + drawn(OPTIONS_MAX);
    for (int64_t i = 0; i < out->option_count; i++) {
        int32_t *own = out->storage[i] + head;
        int64_t length = 2 + drawn(OWN_MAX - 1), copied = i > 0 ? drawn(OWN_MAX) : 0;
        int64_t first_own = out->lengths[0] - head;
        out->answer_tokens[i] = (int32_t)(1 + drawn((uint32_t)length - 1));
        for (int64_t p = 0; p < head; p++) out->storage[i][p] = p == odd;
        for (int64_t p = 0; p < length; p++)
            own[p] = p < copied && p < first_own ? out->storage[0][head + p] : (int32_t)drawn(3);
        out->lengths[i] = head + length;
        out->tokens[i] = out->storage[i];
    }
}

static void draw_questions(question questions[QUESTIONS], qzo_pack_limits *limits, int64_t head) {
    *limits = (qzo_pack_limits){0};
    for (int i = 0; i < QUESTIONS; i++) {
        qzo_pack_limits need;
        draw_question(&questions[i], head);
        qzo_pack_measure(&need, questions[i].option_count, questions[i].tokens,
                         questions[i].lengths, questions[i].answer_tokens);
        limits->rows += need.rows;
        limits->places += need.places;
        limits->gathers += need.gathers;
        limits->targets += need.targets;
        limits->options += need.options;
        if (need.context > limits->context) limits->context = need.context;
    }
}

static qzo_status add(qzo_pack *pack, const question *q) {
    return qzo_pack_add(pack, q->option_count, q->tokens, q->lengths, q->answer_tokens);
}

/* The tokens that a row attends to, itself last; their positions must be 0, 1, 2, ... */
static int64_t context_tokens(int32_t out[LENGTH_MAX], const qzo_pack *pack, int64_t row) {
    int64_t count = 0, at = pack->row_place[row];
    const int64_t ranges[2][2] = {{pack->prefix_begin[at], pack->prefix_end[at]},
                                  {pack->own_begin[at], at + 1}};
    assert_int_equal(pack->place_row[at], row);
    for (int range = 0; range < 2; range++)
        for (int64_t place = ranges[range][0]; place < ranges[range][1]; place++) {
            assert_true(count < LENGTH_MAX);
            assert_in_range(place, 0, pack->place_count - 1);
            assert_int_equal(pack->positions[pack->place_row[place]], count);
            out[count++] = pack->ids[pack->place_row[place]];
        }
    return count;
}

/* Rows with the same tokens before them, and themselves the same: of different questions there are
 * fewer than a pack with places would share. */
static void check_nothing_is_computed_twice(const qzo_pack *pack, const int64_t *question_of_row) {
    for (int64_t a = 0; a < pack->row_count; a++)
        for (int64_t b = 0; b < a; b++) {
            int32_t of_a[LENGTH_MAX], of_b[LENGTH_MAX];
            if (pack->positions[a] != pack->positions[b] ||
                pack->positions[a] < QZO_SHARED_ROWS_MIN - 1 ||
                question_of_row[a] == question_of_row[b])
                continue;
            int64_t count = context_tokens(of_a, pack, a);
            assert_int_equal(context_tokens(of_b, pack, b), count);
            if (pack->prefix_end[pack->row_place[a]] > pack->prefix_begin[pack->row_place[a]] ||
                pack->prefix_end[pack->row_place[b]] > pack->prefix_begin[pack->row_place[b]])
                continue; /* options are those of their question */
            assert_memory_not_equal(of_a, of_b, (size_t)count * sizeof *of_a);
        }
}

static void check_option(const qzo_pack *pack, const question *q, int64_t i, int64_t option) {
    int64_t target = pack->option_target_begin[option];
    assert_int_equal(pack->option_target_begin[option + 1] - target, q->answer_tokens[i]);
    for (int64_t p = q->lengths[i] - q->answer_tokens[i]; p < q->lengths[i]; p++, target++) {
        int32_t before[LENGTH_MAX];
        int64_t gather = pack->target_row[target];
        assert_in_range(gather, 0, pack->gather_count - 1);
        int64_t row = pack->gather_rows[gather];
        assert_int_equal(pack->gather_positions[gather], pack->positions[row]);
        assert_int_equal(pack->gather_places[gather], pack->row_place[row]);
        assert_int_equal(context_tokens(before, pack, row), p);
        assert_memory_equal(before, q->tokens[i], (size_t)p * sizeof *before);
        assert_int_equal(pack->target_id[target], q->tokens[i][p]);
    }
}

static void check_order(const qzo_pack *pack) {
    int8_t *seen = calloc((size_t)pack->target_count + 1, 1);
    for (int64_t i = 0; i < pack->target_count; i++) {
        int32_t target = pack->target_order[i];
        assert_int_equal(seen[target]++, 0);
        if (i > 0)
            assert_true(pack->target_row[pack->target_order[i - 1]] <= pack->target_row[target]);
    }
    free(seen);
}

/* Whether questions did share rows. */
static bool check_round(int64_t head, bool shares) {
    question questions[QUESTIONS];
    qzo_pack_limits limits;
    qzo_pack pack;
    draw_questions(questions, &limits, head);
    int64_t alone = limits.rows;
    if (!shares) limits.places = 0;
    assert_ok(qzo_pack_create(&pack, &limits));
    for (int fill = 0; fill < 2; fill++) { /* a cleared pack is as good as a new one */
        int64_t *question_of_row = calloc((size_t)limits.rows, sizeof *question_of_row), option = 0;
        qzo_pack_clear(&pack);
        for (int i = 0; i < QUESTIONS; i++) {
            int64_t first = pack.row_count;
            assert_ok(add(&pack, &questions[i]));
            for (int64_t row = first; row < pack.row_count; row++) question_of_row[row] = i;
        }
        qzo_pack_finish(&pack);
        for (int i = 0; i < QUESTIONS; i++)
            for (int64_t j = 0; j < questions[i].option_count; j++)
                check_option(&pack, &questions[i], j, option++);
        assert_int_equal(option, pack.option_count);
        assert_int_equal(pack.place_count, alone);
        assert_true(shares ? pack.row_count <= alone : pack.row_count == alone);
        if (shares) check_nothing_is_computed_twice(&pack, question_of_row);
        assert_int_equal(pack.target_count, limits.targets);
        assert_true(pack.gather_count <= limits.gathers);
        check_order(&pack);
        free(question_of_row);
    }
    bool is_shared = qzo_pack_is_shared(&pack);
    qzo_pack_release(&pack);
    return is_shared;
}

static void every_target_sees_the_tokens_before_it(void **state) {
    (void)state;
    int shared_rounds = 0;
    for (int round = 0; round < ROUNDS; round++) {
        assert_false(check_round(0, false));
        assert_false(check_round(HEAD_MAX, false));
        (void)check_round(QZO_SHARED_ROWS_MIN - 2, true);
        shared_rounds += check_round(HEAD_MAX, true);
    }
    assert_in_range(shared_rounds, ROUNDS * 9 / 10, ROUNDS);
}

static void no_row_is_gathered_twice(void **state) {
    (void)state;
    question questions[QUESTIONS];
    qzo_pack_limits limits;
    qzo_pack pack;
    for (int round = 0; round < 100; round++) {
        draw_questions(questions, &limits, round % 2 == 0 ? 0 : HEAD_MAX);
        assert_ok(qzo_pack_create(&pack, &limits));
        for (int i = 0; i < QUESTIONS; i++) assert_ok(add(&pack, &questions[i]));
        for (int64_t i = 0; i < pack.gather_count; i++)
            for (int64_t j = 0; j < i; j++)
                assert_int_not_equal(pack.gather_rows[i], pack.gather_rows[j]);
        qzo_pack_release(&pack);
    }
}

/* " yes" and " no" after ten words of prompt: nine rows are shared, the tenth predicts both. */
static void one_token_options_cost_no_row(void **state) {
    (void)state;
    const int32_t yes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20};
    const int32_t no[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 21};
    const int32_t *const tokens[] = {yes, no};
    const int64_t lengths[] = {11, 11};
    const int32_t answers[] = {1, 1};
    qzo_pack_limits need;
    qzo_pack_measure(&need, 2, tokens, lengths, answers);
    assert_int_equal(need.rows, 10);
    assert_int_equal(need.targets, 2);
    assert_int_equal(need.options, 2);
    assert_int_equal(need.context, 10);
    qzo_pack pack;
    assert_ok(qzo_pack_create(&pack, &need));
    assert_ok(qzo_pack_add(&pack, 2, tokens, lengths, answers));
    assert_int_equal(pack.gather_count, 1);
    assert_int_equal(pack.gather_rows[0], 9);
    qzo_pack_release(&pack);
}

static void what_does_not_fit_is_refused_and_changes_nothing(void **state) {
    (void)state;
    const int32_t row[] = {1, 2, 3, 4};
    const int32_t *const tokens[] = {row};
    const int64_t lengths[] = {4};
    const int32_t answers[] = {2};
    const qzo_pack_limits enough = {
        .rows = 3, .gathers = 2, .targets = 2, .options = 1, .context = 3};
    for (int field = 0; field < 5; field++) {
        qzo_pack_limits limits = enough;
        int64_t *const fields[] = {&limits.rows, &limits.gathers, &limits.targets, &limits.options,
                                   &limits.context};
        (*fields[field])--;
        qzo_pack pack;
        assert_ok(qzo_pack_create(&pack, &limits));
        char expected[64];
        snprintf(expected, sizeof expected, "a pack of %lld tokens has no room for 3 more",
                 (long long)limits.rows);
        assert_fails(qzo_pack_add(&pack, 1, tokens, lengths, answers), QZO_ERR_LIMIT, expected);
        assert_int_equal(pack.row_count + pack.target_count + pack.option_count, 0);
        qzo_pack_release(&pack);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_target_sees_the_tokens_before_it),
        cmocka_unit_test(no_row_is_gathered_twice),
        cmocka_unit_test(one_token_options_cost_no_row),
        cmocka_unit_test(what_does_not_fit_is_refused_and_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
