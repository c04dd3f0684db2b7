/* Forks: whose journals they begin with, what they are called, and what is none of them. */
#include "test_support.h"

#include "base/file_io.h"
#include "sweep/forks.h"
#include "task/task_file.h"
#include "trial/fork.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 4, FORK_STEP = 2, ROUNDS = 2 };

typedef struct place {
    char *folder, *parent, *fork, *grandchild;
} place;

static int make_place(void **state) {
    place *made = calloc(1, sizeof *made);
    made->folder = qzo_test_folder_create();
    made->parent = qzo_path_join(made->folder, "parent.qzj");
    made->fork = qzo_path_join(made->folder, "fork.qzj");
    made->grandchild = qzo_path_join(made->folder, "grandchild.qzj");
    *state = made;
    return 0;
}

static int remove_place(void **state) {
    place *made = *state;
    qzo_test_folder_remove(made->folder);
    free(made->parent);
    free(made->fork);
    free(made->grandchild);
    free(made);
    return 0;
}

static qzo_trial_spec root_spec(void) {
    qzo_trial_spec spec;
    qzo_trial_spec_defaults(&spec);
    spec.steps = STEPS;
    spec.learning_rate = 1e-5;
    assert_ok(qzo_trial_spec_complete(&spec));
    return spec;
}

static qzo_trial_spec fork_of(const qzo_trial_spec *parent, double learning_rate, int64_t step) {
    qzo_trial_spec spec = *parent;
    spec.learning_rate = learning_rate;
    spec.fork_parent = qzo_trial_spec_identity(parent);
    spec.fork_step = step;
    return spec;
}

static qzo_journal *reopen(const char *path) {
    qzo_journal_file file;
    qzo_journal *journal = NULL;
    assert_ok(qzo_journal_load(&file, path));
    assert_ok(qzo_journal_open(&journal, path, &file, 1));
    qzo_journal_release(&file);
    return journal;
}

/* Steps first + 1 .. last, with an evaluation after each second one. */
static void append_steps(qzo_journal *journal, int64_t first, int64_t last) {
    for (int64_t number = first + 1; number <= last; number++) {
        qzo_record record = {.seed = (uint64_t)number, .loss_plus = 1.0f, .loss_minus = 0.5f};
        float k = 1e-6f;
        qzo_step step = {.step = number, .records = &record, .k = &k, .record_count = 1};
        qzo_evaluation evaluation = {.step = number, .split = QZO_SPLIT_DEV, .loss = 0.25};
        assert_ok(qzo_journal_step_append(journal, &step));
        if (number % 2 == 0) assert_ok(qzo_journal_evaluation_append(journal, &evaluation));
    }
}

static void write_root(const place *at, const qzo_trial_spec *spec) {
    qzo_journal *journal = reopen(at->parent);
    char *settings = qzo_trial_spec_canonical(spec);
    qzo_journal_header header = {
        .identity = qzo_trial_spec_identity(spec), .settings = settings, .arithmetic = "test"};
    assert_ok(qzo_journal_header_append(journal, &header));
    append_steps(journal, 0, STEPS);
    assert_ok(qzo_journal_end_append(journal, STEPS, QZO_OUTCOME_FINISHED, ""));
    assert_ok(qzo_journal_close(journal));
    free(settings);
}

static void write_fork(const char *path, const char *parent, const qzo_trial_spec *spec) {
    qzo_journal_file file;
    assert_ok(qzo_journal_load(&file, parent));
    assert_ok(qzo_fork_write(path, &file, spec));
    qzo_journal_release(&file);
}

static void check_identity(const char *path, const qzo_trial_spec *spec) {
    qzo_journal_file file;
    char *settings = NULL, *expected = qzo_trial_spec_canonical(spec);
    qzo_digest identity, wanted = qzo_trial_spec_identity(spec);
    assert_ok(qzo_journal_load(&file, path));
    assert_int_equal(file.tail, QZO_TAIL_CLEAN);
    assert_ok(qzo_journal_settings(&settings, &identity, &file));
    assert_string_equal(settings, expected);
    assert_true(qzo_digest_equal(&identity, &wanted));
    free(settings);
    free(expected);
    qzo_journal_release(&file);
}

static void a_fork_begins_as_its_origin(void **state) {
    const place *at = *state;
    qzo_trial_spec root = root_spec(), fork = fork_of(&root, 2e-5, FORK_STEP);
    write_root(at, &root);
    qzo_journal_file parent, child;
    qzo_trial_summary summary;
    uint64_t checksum = 0;
    size_t prefix = 0;
    write_fork(at->fork, at->parent, &fork);
    check_identity(at->parent, &root);
    check_identity(at->fork, &fork);
    assert_ok(qzo_journal_load(&parent, at->parent));
    assert_ok(qzo_journal_load(&child, at->fork));
    assert_ok(qzo_fork_prefix(&prefix, &checksum, &parent, FORK_STEP));
    assert_true(prefix < parent.size_bytes && prefix < child.size_bytes);
    assert_memory_equal(parent.bytes, child.bytes, prefix);
    assert_ok(qzo_fork_check(&child, &parent, FORK_STEP));
    assert_ok(qzo_trial_summarize(&summary, &child));
    assert_int_equal(summary.steps, FORK_STEP); /* it has not ended, whatever the other did since */
    assert_false(summary.ended);
    qzo_trial_summary_release(&summary);
    assert_fails(qzo_fork_prefix(&prefix, &checksum, &parent, 3), QZO_ERR_FORMAT,
                 "no evaluation after step 3");
    child.bytes[prefix - 1] ^= 1;
    assert_fails(qzo_fork_check(&child, &parent, FORK_STEP), QZO_ERR_DESYNC, "differs");
    qzo_journal_release(&parent);
    qzo_journal_release(&child);
}

static void writing_it_again_changes_nothing(void **state) {
    const place *at = *state;
    qzo_trial_spec root = root_spec(), fork = fork_of(&root, 2e-5, FORK_STEP);
    uint8_t *bytes[ROUNDS];
    size_t size_bytes[ROUNDS];
    write_root(at, &root);
    write_fork(at->fork, at->parent, &fork);
    qzo_journal *journal = reopen(at->fork);
    append_steps(journal, FORK_STEP, STEPS);
    assert_ok(qzo_journal_close(journal));
    for (int i = 0; i < ROUNDS; i++) {
        bytes[i] = qzo_test_file_read(at->fork, &size_bytes[i]);
        write_fork(at->fork, at->parent, &fork);
    }
    assert_int_equal(size_bytes[0], size_bytes[1]);
    assert_memory_equal(bytes[0], bytes[1], size_bytes[0]);
    free(bytes[0]);
    free(bytes[1]);
}

static void a_fork_is_forked(void **state) {
    const place *at = *state;
    qzo_trial_spec root = root_spec(), fork = fork_of(&root, 2e-5, FORK_STEP);
    qzo_trial_spec second = fork_of(&fork, 2e-5, STEPS), other = fork_of(&root, 2e-5, STEPS);
    write_root(at, &root);
    write_fork(at->fork, at->parent, &fork);
    qzo_journal *journal = reopen(at->fork);
    append_steps(journal, FORK_STEP, STEPS);
    assert_ok(qzo_journal_close(journal));
    write_fork(at->grandchild, at->fork, &second);
    check_identity(at->grandchild, &second);
    /* The same settings after another past are another trial. */
    qzo_digest a = qzo_trial_spec_identity(&second), b = qzo_trial_spec_identity(&other);
    assert_false(qzo_digest_equal(&a, &b));
}

static void settings_of_another_trial_are_refused(void **state) {
    const place *at = *state;
    qzo_trial_spec root = root_spec(), other = root;
    other.learning_rate = 3e-5;
    qzo_trial_spec fork = fork_of(&other, 2e-5, FORK_STEP);
    qzo_journal_file file;
    char *settings = NULL;
    qzo_digest identity;
    write_root(at, &root);
    write_fork(at->fork, at->parent, &fork);
    assert_ok(qzo_journal_load(&file, at->fork));
    assert_fails(qzo_journal_settings(&settings, &identity, &file), QZO_ERR_FORMAT,
                 "are of no fork of this trial");
    assert_null(settings);
    qzo_journal_release(&file);
}

static void the_canonical_text_has_the_origin(void **state) {
    (void)state;
    static const char *const wrong[] = {"fork=12@3\n", "fork=@3\n", "fork=x\n", "fork=12\n"};
    qzo_trial_spec root = root_spec(), fork = fork_of(&root, 2e-5, FORK_STEP), back;
    char *text = qzo_trial_spec_canonical(&fork), *plain = qzo_trial_spec_canonical(&root);
    assert_non_null(strstr(text, "@2\n"));
    assert_null(strstr(plain, "fork")); /* identities of other trials stay */
    assert_ok(qzo_trial_spec_parse(&back, text));
    assert_int_equal(back.fork_step, FORK_STEP);
    assert_true(qzo_digest_equal(&back.fork_parent, &fork.fork_parent));
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char bad[8192];
        snprintf(bad, sizeof bad, "%s%s", plain, wrong[i]);
        assert_fails(qzo_trial_spec_parse(&back, bad), QZO_ERR_CONFIG, "settings of a trial: fork");
    }
    free(text);
    free(plain);
}

/* A guide needs samples on both sides: a share that leaves none stays what it was. */
static void settings_that_cannot_be_are_not_drawn(void **state) {
    (void)state;
    static const struct {
        int64_t samples;
        double share; /* of the fork */
    } cases[] = {{2, 0.5}, {4, 0.25}};
    const qzo_perturbing halving = {.factors = {0.5},
                                    .factor_count = 1,
                                    .settings = {qzo_setting_find("guide_share")},
                                    .setting_count = 1};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qzo_trial_spec parent = root_spec(), fork = {0};
        parent.update_rule = "mezo_gv";
        parent.samples_per_step = cases[i].samples;
        assert_ok(qzo_trial_spec_complete(&parent));
        assert_ok(qzo_fork_spec(&fork, &parent, &halving, 1, FORK_STEP));
        assert_true(fork.guide_share == cases[i].share);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_fork_begins_as_its_origin, make_place, remove_place),
        cmocka_unit_test_setup_teardown(writing_it_again_changes_nothing, make_place, remove_place),
        cmocka_unit_test_setup_teardown(a_fork_is_forked, make_place, remove_place),
        cmocka_unit_test_setup_teardown(settings_of_another_trial_are_refused, make_place,
                                        remove_place),
        cmocka_unit_test(the_canonical_text_has_the_origin),
        cmocka_unit_test(settings_that_cannot_be_are_not_drawn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
