/* Journals: what is written is read back; cut or damaged anywhere, all whole frames before that
 * place are kept and the next writer goes on from there. */
#include "test_support.h"

#include "base/file_io.h"
#include "base/host_device.h"
#include "task/task_file.h"
#include "trial/journal.h"
#include "trial/trial_spec.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { SAMPLES = 2, STEPS = 3, FRAMES_MAX = 32, LIMIT_BYTES = 4096, CHANGED_BITS = 0x55 };

static const char ARITHMETIC[] = "cpu fp32 test";
static const uint32_t NAN_BITS = 0xffc01234u; /* a payload and a sign that must survive */

/* A folder of the test, and the path of a journal in it. */
typedef struct place {
    char *folder;
    char *path;
} place;

static int make_place(void **state) {
    place *made = calloc(1, sizeof *made);
    made->folder = qzo_test_folder_create();
    made->path = qzo_path_join(made->folder, "journal.qzj");
    *state = made;
    return 0;
}

static int remove_place(void **state) {
    place *made = *state;
    qzo_test_folder_remove(made->folder);
    free(made->path);
    free(made);
    return 0;
}

/* --- a journal to test with --- */

static char *settings_text(const char *metric_name, const char *metric_goal) {
    qzo_trial_spec spec;
    qzo_trial_spec_defaults(&spec);
    spec.steps = STEPS;
    spec.samples_per_step = SAMPLES;
    spec.batch = 4;
    spec.learning_rate = 1e-5;
    spec.eps = 1e-3;
    spec.metric_name = metric_name;
    spec.metric_goal = metric_goal;
    assert_ok(qzo_trial_spec_complete(&spec));
    char *text = qzo_trial_spec_canonical(&spec);
    assert_non_null(text);
    return text;
}

static void append_header(qzo_journal *journal, const char *metric_name, const char *metric_goal) {
    char *settings = settings_text(metric_name, metric_goal);
    qzo_journal_header header = {.identity = qzo_digest_of("identity", 8),
                                 .model_digest = qzo_digest_of("model", 5),
                                 .task_digest = qzo_digest_of("task", 4),
                                 .value_count = 2560,
                                 .initial_digest = 0x0123456789abcdefu,
                                 .settings = settings,
                                 .arithmetic = ARITHMETIC};
    assert_ok(qzo_journal_header_append(journal, &header));
    free(settings);
}

static qzo_record record_of(int64_t step, uint32_t sample) {
    return (qzo_record){.seed = 0xfedcba9876543210u + (uint64_t)step * 17 + sample,
                        .loss_plus = 0.5f + (float)step,
                        .loss_minus = 0.25f,
                        .gradient = -3.0f * (float)(sample + 1),
                        .sample = sample,
                        .flags = sample == 1 ? QZO_FLAG_CLIPPED : 0};
}

static float k_of(int64_t step, uint32_t sample) { return 1e-6f * (float)(step * 10 + sample); }

static qzo_status append_step(qzo_journal *journal, int64_t number) {
    qzo_record records[SAMPLES];
    float k[SAMPLES];
    for (uint32_t i = 0; i < SAMPLES; i++) {
        records[i] = record_of(number, i);
        k[i] = k_of(number, i);
    }
    qzo_step step = {.step = number,
                     .digest = 1000 + (uint64_t)number,
                     .records = records,
                     .k = k,
                     .record_count = SAMPLES};
    return qzo_journal_step_append(journal, &step);
}

static void append_evaluation(qzo_journal *journal, int64_t step, qzo_split_kind split,
                              double score, double loss) {
    qzo_evaluation evaluation = {
        .step = step, .split = (uint32_t)split, .score = score, .loss = loss};
    assert_ok(qzo_journal_evaluation_append(journal, &evaluation));
}

static qzo_journal *open_journal(const char *path, qzo_journal_file *file) {
    qzo_journal *journal = NULL;
    assert_ok(qzo_journal_load(file, path));
    assert_ok(qzo_journal_open(&journal, path, file, SAMPLES));
    return journal;
}

/* Every kind of frame; fresh bytes. */
static uint8_t *write_journal(const char *path, size_t *size_bytes) {
    qzo_journal_file file;
    qzo_journal *journal = open_journal(path, &file);
    append_header(journal, "dev_loss", "minimize");
    append_evaluation(journal, 0, QZO_SPLIT_DEV, 0.5, 0.75);
    for (int64_t step = 1; step <= STEPS; step++) assert_ok(append_step(journal, step));
    assert_ok(qzo_journal_change_append(journal, STEPS, "another machine"));
    append_evaluation(journal, STEPS, QZO_SPLIT_DEV, 0.625, 0.5);
    append_evaluation(journal, STEPS, QZO_SPLIT_TEST, 0.25, NAN);
    assert_ok(qzo_journal_end_append(journal, STEPS, QZO_OUTCOME_FINISHED, "well"));
    assert_ok(qzo_journal_close(journal));
    qzo_journal_release(&file);
    return qzo_test_file_read(path, size_bytes);
}

/* Offsets where frames end, the magic first; their number. */
static int64_t frame_ends(size_t ends[FRAMES_MAX], const uint8_t *bytes, size_t size_bytes) {
    qzo_frame_reader reader;
    qzo_frame frame;
    int64_t count = 0;
    qzo_frame_reader_start(&reader, bytes, size_bytes, QZO_JOURNAL_MAGIC);
    ends[count++] = reader.valid_bytes;
    while (qzo_frame_next(&reader, &frame)) {
        assert_true(count < FRAMES_MAX);
        ends[count++] = reader.valid_bytes;
    }
    return count;
}

/* --- what is written is read back --- */

static qzo_frame next_frame(qzo_frame_reader *reader, qzo_frame_type type) {
    qzo_frame frame;
    assert_true(qzo_frame_next(reader, &frame));
    assert_int_equal(frame.type, type);
    return frame;
}

static void check_header(qzo_frame_reader *reader) {
    qzo_frame frame = next_frame(reader, QZO_FRAME_HEADER);
    qzo_journal_header header;
    char *texts = NULL, *settings = settings_text("dev_loss", "minimize");
    assert_ok(qzo_header_decode(&header, &texts, &frame));
    assert_int_equal(header.value_count, 2560);
    assert_true(header.initial_digest == 0x0123456789abcdefu);
    assert_string_equal(header.settings, settings);
    assert_string_equal(header.arithmetic, ARITHMETIC);
    qzo_digest model = qzo_digest_of("model", 5);
    assert_true(qzo_digest_equal(&header.model_digest, &model));
    free(texts);
    free(settings);
}

static void check_step(qzo_frame_reader *reader, int64_t number) {
    qzo_frame frame = next_frame(reader, QZO_FRAME_STEP);
    qzo_record records[SAMPLES];
    float k[SAMPLES];
    qzo_step step;
    assert_ok(qzo_step_decode(&step, records, k, SAMPLES, &frame));
    assert_int_equal(step.step, number);
    assert_true(step.digest == 1000 + (uint64_t)number);
    assert_int_equal(step.record_count, SAMPLES);
    for (uint32_t i = 0; i < SAMPLES; i++) {
        qzo_record expected = record_of(number, i);
        assert_memory_equal(&records[i], &expected, sizeof expected);
        assert_true(k[i] == k_of(number, i));
    }
}

static void reads_back_every_frame(void **state) {
    const place *at = *state;
    size_t size_bytes = 0;
    uint8_t *bytes = write_journal(at->path, &size_bytes);
    qzo_frame_reader reader;
    qzo_frame frame;
    qzo_evaluation evaluation;
    qzo_end end;
    const char *text = NULL;
    size_t text_bytes = 0;
    int64_t step = 0;
    qzo_frame_reader_start(&reader, bytes, size_bytes, QZO_JOURNAL_MAGIC);
    check_header(&reader);
    frame = next_frame(&reader, QZO_FRAME_EVAL);
    assert_ok(qzo_evaluation_decode(&evaluation, &frame));
    assert_true(evaluation.step == 0 && evaluation.score == 0.5 && evaluation.loss == 0.75);
    for (int64_t i = 1; i <= STEPS; i++) check_step(&reader, i);
    frame = next_frame(&reader, QZO_FRAME_CHANGE);
    assert_ok(qzo_change_decode(&step, &text, &text_bytes, &frame));
    assert_int_equal(step, STEPS);
    assert_int_equal(text_bytes, strlen("another machine"));
    assert_memory_equal(text, "another machine", text_bytes);
    next_frame(&reader, QZO_FRAME_EVAL);
    frame = next_frame(&reader, QZO_FRAME_EVAL);
    assert_ok(qzo_evaluation_decode(&evaluation, &frame));
    assert_true(evaluation.split == QZO_SPLIT_TEST && isnan(evaluation.loss));
    frame = next_frame(&reader, QZO_FRAME_END);
    assert_ok(qzo_end_decode(&end, &frame));
    assert_true(end.step == STEPS && end.outcome == QZO_OUTCOME_FINISHED && end.text_bytes == 4);
    assert_false(qzo_frame_next(&reader, &frame));
    assert_int_equal(reader.tail, QZO_TAIL_CLEAN);
    free(bytes);
}

static void keeps_the_bits_of_a_nan(void **state) {
    const place *at = *state;
    qzo_journal_file file;
    qzo_journal *journal = open_journal(at->path, &file);
    qzo_record record = {.loss_plus = qzo_float_from_bits(NAN_BITS), .loss_minus = INFINITY};
    float k = -0.0f, k_read = 1.0f;
    qzo_step step = {.step = 1, .records = &record, .k = &k, .record_count = 1}, read;
    assert_ok(qzo_journal_step_append(journal, &step));
    assert_ok(qzo_journal_close(journal));
    qzo_journal_release(&file);
    assert_ok(qzo_journal_load(&file, at->path));
    qzo_frame_reader reader;
    qzo_frame_reader_start(&reader, file.bytes, file.valid_bytes, QZO_JOURNAL_MAGIC);
    qzo_frame frame = next_frame(&reader, QZO_FRAME_STEP);
    qzo_record record_read;
    assert_ok(qzo_step_decode(&read, &record_read, &k_read, 1, &frame));
    assert_int_equal(qzo_float_bits(record_read.loss_plus), NAN_BITS);
    assert_true(isinf(record_read.loss_minus) && signbit(k_read) && k_read == 0.0f);
    qzo_journal_release(&file);
}

static void the_same_calls_write_the_same_bytes(void **state) {
    const place *at = *state;
    size_t first_bytes = 0, second_bytes = 0;
    uint8_t *first = write_journal(at->path, &first_bytes);
    assert_int_equal(unlink(at->path), 0);
    uint8_t *second = write_journal(at->path, &second_bytes);
    assert_int_equal(first_bytes, second_bytes);
    assert_memory_equal(first, second, first_bytes);
    free(first);
    free(second);
}

static void an_absent_file_is_an_empty_journal(void **state) {
    const place *at = *state;
    qzo_journal_file file;
    assert_ok(qzo_journal_load(&file, at->path));
    assert_int_equal(file.frame_count, 0);
    assert_int_equal(file.valid_bytes, 0);
    assert_int_equal(file.tail, QZO_TAIL_CLEAN);
    qzo_journal_release(&file);
}

/* --- cuts and damage --- */

/* Opens what stands at path, appends one frame, and checks that it is behind `kept` frames whose
 * bytes are those of `bytes`. */
static void append_and_check(const place *at, int64_t kept, const uint8_t *bytes,
                             size_t kept_bytes) {
    qzo_journal_file file;
    qzo_journal *journal = open_journal(at->path, &file);
    assert_ok(qzo_journal_end_append(journal, 99, QZO_OUTCOME_STOPPED, "appended"));
    assert_ok(qzo_journal_close(journal));
    qzo_journal_release(&file);
    assert_ok(qzo_journal_load(&file, at->path));
    assert_int_equal(file.tail, QZO_TAIL_CLEAN);
    assert_int_equal(file.frame_count, kept + 1);
    assert_memory_equal(file.bytes, bytes, kept_bytes);
    qzo_journal_release(&file);
}

static void every_cut_keeps_the_whole_frames(void **state) {
    const place *at = *state;
    size_t size_bytes = 0, ends[FRAMES_MAX];
    uint8_t *bytes = write_journal(at->path, &size_bytes);
    int64_t end_count = frame_ends(ends, bytes, size_bytes);
    for (size_t cut = 0; cut <= size_bytes; cut++) {
        int64_t kept = 0;
        while (kept + 1 < end_count && ends[kept + 1] <= cut) kept++;
        bool whole = cut == ends[kept] || cut == 0;
        qzo_test_file_write(at->path, bytes, cut);
        qzo_journal_file file;
        assert_ok(qzo_journal_load(&file, at->path));
        if (file.frame_count != kept || (file.tail == QZO_TAIL_CLEAN) != whole ||
            file.tail == QZO_TAIL_DAMAGED)
            fail_msg("cut at byte %zu: %lld frames and tail %d, expected %lld and a %s one", cut,
                     (long long)file.frame_count, (int)file.tail, (long long)kept,
                     whole ? "clean" : "torn");
        qzo_journal_release(&file);
        append_and_check(at, kept, bytes, kept > 0 ? ends[kept] : 0);
    }
    free(bytes);
}

/* A changed length may point behind the end of the file, as in a frame that was torn off: only that
 * may be called torn. */
static void every_changed_byte_is_noticed(void **state) {
    const place *at = *state;
    size_t size_bytes = 0, ends[FRAMES_MAX];
    uint8_t *bytes = write_journal(at->path, &size_bytes);
    int64_t end_count = frame_ends(ends, bytes, size_bytes);
    for (size_t changed = 0; changed < size_bytes; changed++) {
        int64_t kept = 0;
        while (kept + 1 < end_count && ends[kept + 1] <= changed) kept++;
        size_t in_frame = changed - ends[kept];
        bool in_length = changed >= ends[0] && in_frame >= 4 && in_frame < 8;
        bytes[changed] ^= CHANGED_BITS;
        uint8_t *copy = malloc(size_bytes);
        memcpy(copy, bytes, size_bytes);
        qzo_journal_file file;
        qzo_journal_adopt(&file, copy, size_bytes);
        bool noticed = file.tail == QZO_TAIL_DAMAGED || (in_length && file.tail == QZO_TAIL_TORN);
        if (file.frame_count != kept || !noticed)
            fail_msg("byte %zu changed: %lld frames and tail %d, expected %lld and a damaged one",
                     changed, (long long)file.frame_count, (int)file.tail, (long long)kept);
        qzo_journal_release(&file);
        bytes[changed] ^= CHANGED_BITS;
    }
    free(bytes);
}

static void a_damaged_journal_is_kept_beside_it(void **state) {
    const place *at = *state;
    size_t size_bytes = 0, kept_bytes = 0, ends[FRAMES_MAX];
    uint8_t *bytes = write_journal(at->path, &size_bytes);
    frame_ends(ends, bytes, size_bytes);
    bytes[ends[3] + 20] ^= CHANGED_BITS; /* in the payload of the fourth frame */
    qzo_test_file_write(at->path, bytes, size_bytes);
    append_and_check(at, 3, bytes, ends[3]);
    char *kept_path = qzo_path_join(at->folder, "journal.damaged");
    uint8_t *kept = qzo_test_file_read(kept_path, &kept_bytes);
    assert_int_equal(kept_bytes, size_bytes);
    assert_memory_equal(kept, bytes, size_bytes);
    free(kept);
    free(kept_path);
    free(bytes);
}

static void frames_in_another_order_are_damage(void **state) {
    const place *at = *state;
    size_t size_bytes = 0, ends[FRAMES_MAX];
    uint8_t *bytes = write_journal(at->path, &size_bytes);
    frame_ends(ends, bytes, size_bytes);
    /* The three STEP frames have one size: swap the first two of them. */
    size_t step_bytes = ends[3] - ends[2];
    uint8_t *swapped = malloc(size_bytes);
    memcpy(swapped, bytes, size_bytes);
    memcpy(swapped + ends[2], bytes + ends[3], step_bytes);
    memcpy(swapped + ends[3], bytes + ends[2], step_bytes);
    qzo_journal_file file;
    qzo_journal_adopt(&file, swapped, size_bytes);
    assert_int_equal(file.frame_count, 2);
    assert_int_equal(file.tail, QZO_TAIL_DAMAGED);
    qzo_journal_release(&file);
    free(bytes);
}

static void a_tail_of_zeros_is_cut(void **state) {
    const place *at = *state;
    size_t size_bytes = 0;
    uint8_t *bytes = write_journal(at->path, &size_bytes);
    size_t ends[FRAMES_MAX];
    int64_t end_count = frame_ends(ends, bytes, size_bytes);
    assert_int_equal(truncate(at->path, (off_t)size_bytes + 400), 0);
    append_and_check(at, end_count - 1, bytes, size_bytes);
    free(bytes);
}

/* --- writing --- */

static void a_second_writer_is_refused(void **state) {
    const place *at = *state;
    qzo_journal_file file;
    qzo_journal *first = open_journal(at->path, &file), *second = NULL;
    assert_fails(qzo_journal_open(&second, at->path, &file, SAMPLES), QZO_ERR_BUSY, at->path);
    assert_null(second);
    append_header(first, "dev_loss", "minimize");
    assert_ok(qzo_journal_close(first));
    qzo_journal_release(&file);
    qzo_journal *third = open_journal(at->path, &file);
    assert_int_equal(file.frame_count, 1);
    assert_ok(qzo_journal_close(third));
    qzo_journal_release(&file);
}

/* A file that may not grow further stands in for a full disk. */
static void a_failed_write_leaves_whole_frames(void **state) {
    const place *at = *state;
    struct rlimit before, lowered;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    lowered = (struct rlimit){.rlim_cur = LIMIT_BYTES, .rlim_max = before.rlim_max};
    qzo_journal_file file;
    qzo_journal *journal = open_journal(at->path, &file);
    qzo_journal_release(&file);
    append_header(journal, "dev_loss", "minimize");
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &lowered), 0);
    int64_t written = 0;
    qzo_status status = QZO_OK;
    while (status == QZO_OK && written < LIMIT_BYTES) {
        status = append_step(journal, written + 1);
        written += status == QZO_OK;
    }
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(status, QZO_ERR_IO);
    assert_non_null(strstr(qzo_error_message(), at->path));
    assert_true(written > 0);
    assert_ok(qzo_journal_load(&file, at->path));
    assert_int_equal(file.tail, QZO_TAIL_CLEAN);
    assert_int_equal(file.frame_count, written + 1);
    qzo_journal_release(&file);
    /* With room again the same writer goes on. */
    assert_ok(append_step(journal, written + 1));
    assert_ok(qzo_journal_close(journal));
    assert_ok(qzo_journal_load(&file, at->path));
    assert_int_equal(file.tail, QZO_TAIL_CLEAN);
    assert_int_equal(file.frame_count, written + 2);
    qzo_journal_release(&file);
}

static void a_folder_that_is_not_there_is_named(void **state) {
    const place *at = *state;
    qzo_journal_file file = {0};
    qzo_journal *journal = NULL;
    char *path = qzo_path_join(at->folder, "absent/journal.qzj");
    assert_fails(qzo_journal_open(&journal, path, &file, 1), QZO_ERR_IO, path);
    assert_null(journal);
    free(path);
}

/* --- malformed frames --- */

static void frames_that_say_too_much_are_refused(void **state) {
    (void)state;
    uint8_t payload[128] = {0};
    qzo_record records[1];
    float k[1];
    qzo_step step;
    qzo_evaluation evaluation;
    qzo_end end;
    qzo_frame frame = {QZO_FRAME_STEP, payload, 19};
    assert_fails(qzo_step_decode(&step, records, k, 1, &frame), QZO_ERR_FORMAT, "STEP");
    frame.payload_bytes = 20 + 36;
    payload[16] = 2; /* two records in the room of one */
    assert_fails(qzo_step_decode(&step, records, k, 1, &frame), QZO_ERR_FORMAT, "2 records");
    frame.payload_bytes = 20 + 2 * 36;
    assert_fails(qzo_step_decode(&step, records, k, 1, &frame), QZO_ERR_LIMIT, "1 per step");
    frame.type = QZO_FRAME_EVAL;
    assert_fails(qzo_step_decode(&step, records, k, 1, &frame), QZO_ERR_FORMAT, "type 3");
    frame.payload_bytes = 31;
    assert_fails(qzo_evaluation_decode(&evaluation, &frame), QZO_ERR_FORMAT, "EVAL");
    frame = (qzo_frame){QZO_FRAME_END, payload, 16};
    payload[8] = QZO_OUTCOME_COUNT;
    assert_fails(qzo_end_decode(&end, &frame), QZO_ERR_FORMAT, "outcome 4");
}

static void a_header_of_another_version_is_refused(void **state) {
    const place *at = *state;
    size_t size_bytes = 0;
    uint8_t *bytes = write_journal(at->path, &size_bytes);
    qzo_frame_reader reader;
    qzo_frame_reader_start(&reader, bytes, size_bytes, QZO_JOURNAL_MAGIC);
    qzo_frame frame = next_frame(&reader, QZO_FRAME_HEADER);
    uint8_t *payload = malloc(frame.payload_bytes);
    memcpy(payload, frame.payload, frame.payload_bytes);
    qzo_journal_header header;
    char *texts = NULL;
    payload[0] = QZO_JOURNAL_VERSION + 1;
    frame.payload = payload;
    assert_fails(qzo_header_decode(&header, &texts, &frame), QZO_ERR_UNSUPPORTED, "format 2");
    payload[0] = QZO_JOURNAL_VERSION;
    qzo_put_u32(payload + 72, UINT32_MAX); /* the length of the settings */
    assert_fails(qzo_header_decode(&header, &texts, &frame), QZO_ERR_FORMAT, "exceeds");
    assert_null(texts);
    free(payload);
    free(bytes);
}

/* --- what a table shows --- */

static void summarize(qzo_trial_summary *out, const char *path) {
    qzo_journal_file file;
    assert_ok(qzo_journal_load(&file, path));
    assert_ok(qzo_trial_summarize(out, &file));
    qzo_journal_release(&file);
}

static void the_summary_of_a_finished_trial(void **state) {
    const place *at = *state;
    size_t size_bytes = 0;
    qzo_trial_summary summary;
    free(write_journal(at->path, &size_bytes));
    summarize(&summary, at->path);
    assert_true(summary.exists && summary.ended);
    assert_int_equal(summary.outcome, QZO_OUTCOME_FINISHED);
    assert_string_equal(summary.text, "well");
    assert_int_equal(summary.steps, STEPS);
    assert_int_equal(summary.best_step, STEPS);
    assert_true(summary.zero_shot_dev == 0.5 && summary.dev_score == 0.625);
    assert_true(summary.dev_loss == 0.5 && summary.test_score == 0.25 && isnan(summary.test_loss));
    assert_true(summary.last_loss == 0.5 * (0.5 + STEPS + 0.25));
    assert_int_equal(summary.record_count, STEPS * SAMPLES);
    assert_int_equal(summary.clipped_count, STEPS);
    qzo_trial_summary_release(&summary);
}

static void an_empty_journal_has_a_summary(void **state) {
    const place *at = *state;
    qzo_trial_summary summary;
    summarize(&summary, at->path);
    assert_false(summary.exists || summary.ended);
    assert_int_equal(summary.best_step, -1);
    assert_true(isnan(summary.dev_loss) && isnan(summary.zero_shot_dev));
    qzo_trial_summary_release(&summary);
}

/* Dev evaluations (score, loss) at steps 0, 1, 2, 3. */
static int64_t best_of(const char *path, const char *metric_name, const char *metric_goal,
                       const double (*evaluations)[2]) {
    qzo_journal_file file;
    qzo_journal *journal = open_journal(path, &file);
    qzo_journal_release(&file);
    append_header(journal, metric_name, metric_goal);
    for (int64_t step = 0; step <= STEPS; step++)
        append_evaluation(journal, step, QZO_SPLIT_DEV, evaluations[step][0], evaluations[step][1]);
    assert_ok(qzo_journal_close(journal));
    qzo_trial_summary summary;
    summarize(&summary, path);
    int64_t best_step = summary.best_step;
    if (best_step >= 0 && (summary.dev_score != evaluations[best_step][0] ||
                           summary.dev_loss != evaluations[best_step][1]))
        fail_msg("the values are not those of the best step %lld", (long long)best_step);
    qzo_trial_summary_release(&summary);
    assert_int_equal(unlink(path), 0);
    return best_step;
}

static void the_best_step_follows_the_metric(void **state) {
    const place *at = *state;
    const double evaluations[][2] = {{0.5, 0.9}, {0.75, 0.8}, {0.25, 0.7}, {0.75, 0.7}};
    assert_int_equal(best_of(at->path, "dev_loss", "minimize", evaluations), 2);
    assert_int_equal(best_of(at->path, "dev_score", "maximize", evaluations), 1);
}

static void a_loss_that_is_nan_is_never_best(void **state) {
    const place *at = *state;
    const double evaluations[][2] = {{0.5, 0.9}, {0.75, NAN}, {0.25, 0.7}, {0.75, NAN}};
    assert_int_equal(best_of(at->path, "dev_loss", "minimize", evaluations), 2);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_place, remove_place)
    const struct CMUnitTest tests[] = {
        TEST(reads_back_every_frame),
        TEST(keeps_the_bits_of_a_nan),
        TEST(the_same_calls_write_the_same_bytes),
        TEST(an_absent_file_is_an_empty_journal),
        TEST(every_cut_keeps_the_whole_frames),
        TEST(every_changed_byte_is_noticed),
        TEST(a_damaged_journal_is_kept_beside_it),
        TEST(frames_in_another_order_are_damage),
        TEST(a_tail_of_zeros_is_cut),
        TEST(a_second_writer_is_refused),
        TEST(a_failed_write_leaves_whole_frames),
        TEST(a_folder_that_is_not_there_is_named),
        TEST(frames_that_say_too_much_are_refused),
        TEST(a_header_of_another_version_is_refused),
        TEST(the_summary_of_a_finished_trial),
        TEST(an_empty_journal_has_a_summary),
        TEST(the_best_step_follows_the_metric),
        TEST(a_loss_that_is_nan_is_never_best),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
