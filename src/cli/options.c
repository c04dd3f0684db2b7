#include "cli/options.h"

#include "base/suggest.h"
#include "cli/cli.h"

#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { OPTIONS_MAX = 64, WORDS_MAX = 64, FIRST_KEY = 256 };

/* --- the tables --- */

const qzo_command qzo_commands[] = {
    {"plan", "SWEEP.yaml", "trials, steps and memory per rank of a sweep; no work", qzo_cmd_plan},
    {"run", "SWEEP.yaml", "run or resume a sweep; alone, under mpirun or srun", qzo_cmd_run},
    {"status", "DIR", "how a running sweep stands; redraws in place on a terminal", qzo_cmd_status},
    {"report", "DIR", "the table of trials of an output folder", qzo_cmd_report},
    {"replay", "DIR TRIAL", "rebuild a trial's scales from its journal", qzo_cmd_replay},
    {"journal", "DIR TRIAL", "print a trial's journal", qzo_cmd_journal},
    {"diff", "DIR TRIAL TRIAL", "the first step at which two journals differ", qzo_cmd_diff},
    {"export", "DIR TRIAL", "write a trial's tuned model, or what rebuilds it, to a new folder",
     qzo_cmd_export},
    {"inspect", "MODEL", "tensors, formats, trainable values and sizes of a model folder",
     qzo_cmd_inspect},
    {"generate", "MODEL", "continue token ids, greedily or by drawing, and print the text",
     qzo_cmd_generate},
    {"eval", "MODEL TASK...", "loss and score of a model, or a trial's, on prepared tasks",
     qzo_cmd_eval},
    {"bench", "MODEL", "time, bytes and rate of every operation at a model's shapes",
     qzo_cmd_bench},
    {"doctor", "", "what a run finds on this machine or job, and what is wrong with it",
     qzo_cmd_doctor},
    {"completion", "bash|zsh", "print a script that completes commands and options in a shell",
     qzo_cmd_completion},
    {NULL, NULL, NULL, NULL},
};

/* Positional arguments: the words of a command's `arguments`, in order. */
static const struct {
    const char *word;
    size_t offset;
} positionals[] = {
    {"SWEEP.yaml", offsetof(qzo_options, sweep_path)},
    {"DIR", offsetof(qzo_options, folder)},
    {"TRIAL", offsetof(qzo_options, trial)},
    {"MODEL", offsetof(qzo_options, model_path)},
    {"TASK", offsetof(qzo_options, task_path)},
    {"bash|zsh", offsetof(qzo_options, shell_name)},
};

typedef enum { KIND_FLAG, KIND_TEXT, KIND_INT, KIND_NUMBER, KIND_BYTES, KIND_CHOICE } option_kind;

typedef struct option_entry {
    const char *name; /* without "--" */
    option_kind kind;
    size_t offset;
    const char *argument; /* as help shows it; of CHOICE: the words, with | between */
    int64_t min, max;     /* of INT and NUMBER */
    const char *commands; /* " plan run ": which commands take it; NULL: all */
    bool required;
    const char *help;
} option_entry;

static const char LEVELS[] = "error|warn|info|debug";        /* in the order of qzo_log_level */
static const char CPU_LEVELS[] = "baseline|avx2|avx512|amx"; /* in the order of qzo_cpu_level */
static const char SPLITS[] = "train|dev|test";
static const char PAIRS[] = "auto|never|always";  /* of qzo_pairs */
static const char TRANSPORTS[] = "auto|nccl|mpi"; /* and of qzo_transport_choice */

static const option_entry entries[] = {
    {"out", KIND_TEXT, offsetof(qzo_options, out_folder), "DIR", 0, 0, " run ", true,
     "output folder; an existing one is resumed"},
    {"task", KIND_TEXT, offsetof(qzo_options, task_path), "FILE", 0, 0, " plan run ", false,
     "the task, for a sweep file that names none"},
    {"out", KIND_TEXT, offsetof(qzo_options, out_folder), "DIR", 0, 0, " doctor ", false,
     "look at this output folder too: may it be written, how long does a sync take"},
    {"slice", KIND_TEXT, offsetof(qzo_options, slice_text), "I/N", 0, 0, " run ", false,
     "run only trials I, I + N, I + 2N ...: one job of N on the same folder"},
    {"end-time", KIND_INT, offsetof(qzo_options, end_time), "SECONDS", 1, INT64_MAX, " run ", false,
     "when the job ends, in seconds since 1970: no rung is started that would end later"},
    {"retry", KIND_CHOICE, offsetof(qzo_options, retry_name), "failed|diverged", 0, 0, " run ",
     false, "run trials that ended so anew; their old journals are kept"},
    {"ranks", KIND_INT, offsetof(qzo_options, rank_count), "N", 1, 1 << 20, " plan ", false,
     "how many ranks the job will have (default: 1)"},
    {"per-node", KIND_INT, offsetof(qzo_options, per_node), "N", 1, 4096, " plan ", false,
     "ranks per node, for the sbatch line (default: 8)"},
    {"calibrate", KIND_FLAG, offsetof(qzo_options, calibrate), NULL, 0, 0, " plan ", false,
     "load the models, take three steps of each kind of trial, and say how long the sweep takes"},
    {"time", KIND_TEXT, offsetof(qzo_options, time_text), "HH:MM:SS", 0, 0, " plan ", false,
     "with --calibrate: whether it fits this limit of a job"},
    {"ids", KIND_TEXT, offsetof(qzo_options, ids_path), "FILE", 0, 0, " generate ", true,
     "the prompt's token ids: decimal text, or little-endian int32"},
    {"max-new", KIND_INT, offsetof(qzo_options, new_count), "N", 1, 1 << 24, " generate ", true,
     "how many tokens to add"},
    {"print-ids", KIND_FLAG, offsetof(qzo_options, print_ids), NULL, 0, 0, " generate ", false,
     "print token ids instead of text"},
    {"stop-at-eos", KIND_FLAG, offsetof(qzo_options, stop_at_eos), NULL, 0, 0, " generate ", false,
     "stop after the model's end-of-text token"},
    {"stop", KIND_TEXT, offsetof(qzo_options, stop_text), "TEXT", 0, 0, " generate ", false,
     "stop before this text; \\n, \\t and \\\\ as in C"},
    {"each-line", KIND_FLAG, offsetof(qzo_options, each_line), NULL, 0, 0, " generate ", false,
     "every line of the file is a prompt of its own; they are continued side by side"},
    {"temperature", KIND_NUMBER, offsetof(qzo_options, temperature), "T", 0, 1000, " generate ",
     false, "draw tokens, their logits divided by T (default: 0, always the most likely one)"},
    {"top-k", KIND_INT, offsetof(qzo_options, top_k), "K", 1, 1 << 24, " generate ", false,
     "draw among the K most likely tokens only"},
    {"top-p", KIND_NUMBER, offsetof(qzo_options, top_p), "P", 0, 1, " generate ", false,
     "draw among the fewest tokens only whose probabilities reach P"},
    {"seed", KIND_INT, offsetof(qzo_options, seed), "N", 0, INT64_MAX, " generate ", false,
     "of the draws (default: 0)"},
    {"rows", KIND_INT, offsetof(qzo_options, row_count), "N", 1, 1 << 20, " bench ", false,
     "packed rows of a forward pass (default: 512)"},
    {"to", KIND_TEXT, offsetof(qzo_options, to_folder), "FOLDER", 0, 0, " export ", true,
     "the folder to make; it must not exist"},
    {"delta", KIND_FLAG, offsetof(qzo_options, delta), NULL, 0, 0, " export ", false,
     "write the changed tensors alone"},
    {"journal", KIND_FLAG, offsetof(qzo_options, journal), NULL, 0, 0, " export ", false,
     "write the journal alone: an output folder from which `qzo export` rebuilds the model"},
    {"merge", KIND_FLAG, offsetof(qzo_options, merge), NULL, 0, 0, " export ", false,
     "write a whole model with its adapters in the weights, which must not be quantized"},
    {"no-eval", KIND_FLAG, offsetof(qzo_options, no_eval), NULL, 0, 0, " export ", false,
     "do not score the dev split before and after rounding"},
    {"step", KIND_INT, offsetof(qzo_options, step), "N", 0, INT64_MAX, " replay export eval ",
     false, "the scales after this step (default: replay the last, export and eval the best one)"},
    {"trial", KIND_TEXT, offsetof(qzo_options, eval_trial), "TRIAL", 0, 0, " eval ", false,
     "MODEL is an output folder: score this trial's tuned scales"},
    {"split", KIND_CHOICE, offsetof(qzo_options, split_name), SPLITS, 0, 0, " eval ", false,
     "score this split alone (default: dev and test)"},
    {"limit", KIND_INT, offsetof(qzo_options, example_limit), "N", 1, INT64_MAX, " eval ", false,
     "score at most the first N examples of a split"},
    {"predictions", KIND_TEXT, offsetof(qzo_options, predictions_path), "FILE", 0, 0, " eval ",
     false, "write what each example got, one JSON object per line"},
    {"calibration", KIND_TEXT, offsetof(qzo_options, calibration_path), "FILE", 0, 0, " eval ",
     false, "the task prepared with --sfc: subtract what the answers get without their question"},
    {"bootstrap-seed", KIND_INT, offsetof(qzo_options, bootstrap_seed), "N", 0, INT64_MAX, " eval ",
     false, "draws the resamples of the intervals (default: 0)"},
    {"task", KIND_TEXT, offsetof(qzo_options, task_path), "FILE", 0, 0, " bench ", false,
     "measure whole steps on this prepared task too, phase by phase"},
    {"batch", KIND_INT, offsetof(qzo_options, batch), "N", 1, 1 << 20, " bench ", false,
     "examples of such a step (default: 16)"},
    {"samples", KIND_INT, offsetof(qzo_options, sample_count), "N", 1, 1 << 16, " bench ", false,
     "pairs of evaluations of such a step (default: 1)"},
    {"steps", KIND_INT, offsetof(qzo_options, step_count), "N", 1, 1 << 20, " bench ", false,
     "steps that are timed (default: 5)"},
    {"records", KIND_INT, offsetof(qzo_options, record_count), "N", 1, 1 << 16, " bench ", false,
     "records of the update that is measured (default: 1)"},
    {"check", KIND_FLAG, offsetof(qzo_options, check), NULL, 0, 0, " replay report ", false,
     "replay: compare with the recorded digest; report: compare the decisions with the journals; "
     "exit code 70 where they differ"},
    {"model", KIND_TEXT, offsetof(qzo_options, model_path), "PATH", 0, 0,
     " plan run replay export ", false,
     "the model folder: where it moved since the run, or for a sweep file that names none"},
    {"mean", KIND_FLAG, offsetof(qzo_options, mean), NULL, 0, 0, " report ", false,
     "one row per setting: mean over its seeds, and the 95 % interval t s / sqrt(n)"},
    {"csv", KIND_FLAG, offsetof(qzo_options, csv), NULL, 0, 0, " report journal ", false,
     "print CSV"},
    {"json", KIND_FLAG, offsetof(qzo_options, json), NULL, 0, 0,
     " plan status report export inspect bench eval doctor ", false, "print JSON"},
    {"threads", KIND_INT, offsetof(qzo_options, thread_count), "N", 1, 4096,
     " plan run replay export generate bench eval doctor ", false,
     "threads per rank (default: the host's cores / its ranks)"},
    {"quantize", KIND_CHOICE, offsetof(qzo_options, quantize_name), "nf4|fp4", 0, 0,
     " generate bench eval inspect ", false,
     "make bitsandbytes' 4-bit weights of an fp16, bf16 or fp32 model's linear layers while it is "
     "loaded"},
    {"backend", KIND_CHOICE, offsetof(qzo_options, backend_name),
     "auto|cpu|cpu-bf16|cuda|cuda-bf16", 0, 0,
     " plan run replay export generate bench eval doctor ", false, "what computes (default: auto)"},
    {"cpu-limit", KIND_CHOICE, offsetof(qzo_options, cpu_limit_name), CPU_LEVELS, 0, 0,
     " run replay export generate bench eval ", false,
     "use no wider instructions than these, to compare them (default: amx, whatever there is)"},
    {"transport", KIND_CHOICE, offsetof(qzo_options, transport_name), TRANSPORTS, 0, 0, " run ",
     false,
     "how the records of a trial travel (default: auto, NCCL where each of its ranks has a GPU of "
     "its own)"},
    {"memory-limit", KIND_BYTES, offsetof(qzo_options, memory_limit_bytes), "BYTES", 0, 0,
     " plan run ", false,
     "refuse a sweep of which a rank would take more, as 4500000000, 4.5GB or 4GiB (default: what "
     "the GPU has)"},
    {"pairs", KIND_CHOICE, offsetof(qzo_options, pairs_name), PAIRS, 0, 0, " plan run bench ",
     false,
     "compute both signs of a perturbation at once, which reads codes once and changes no bit "
     "(default: auto, where the backend's table says that it pays and memory allows it)"},
    {"quiet", KIND_FLAG, offsetof(qzo_options, quiet), NULL, 0, 0, " run ", false,
     "no table at the end"},
    {"inject-fault", KIND_TEXT, offsetof(qzo_options, faults), "KIND:RANK@AT,...", 0, 0, " run ",
     false,
     "make faults happen: kill, corrupt, delay, nan-loss, zero-loss, update-error at a step, "
     "write-error, short-read at the n-th file operation, fork-error at the n-th fork"},
    {"progress", KIND_CHOICE, offsetof(qzo_options, progress_name), "auto|table|lines", 0, 0,
     " run ", false, "a table that redraws in place, or lines (default: table on a terminal)"},
    {"log-level", KIND_CHOICE, offsetof(qzo_options, log_level_name), LEVELS, 0, 0, NULL, false,
     "what goes to stderr (default: info)"},
    {"help", KIND_FLAG, offsetof(qzo_options, help), NULL, 0, 0, NULL, false, "print this help"},
};
enum { ENTRY_COUNT = sizeof entries / sizeof *entries };
_Static_assert((int)ENTRY_COUNT < (int)OPTIONS_MAX, "argp's table of one command holds them all");

static const struct argp_option program_options[] = {
    {"help", FIRST_KEY, NULL, 0, "print this help", 0},
    {"version", FIRST_KEY + 1, NULL, 0, "print version, commit, compiler and backends", 0},
    {0},
};

/* --- looking things up --- */

/* Whether `word` stands in a list of words with blanks around each. */
static bool lists(const char *list, const char *word) {
    size_t length = strlen(word);
    for (const char *at = strstr(list, word); at != NULL; at = strstr(at + 1, word))
        if (at > list && at[-1] == ' ' && at[length] == ' ') return true;
    return false;
}

static bool takes(const qzo_command *command, const option_entry *entry) {
    return entry->commands == NULL || lists(entry->commands, command->name);
}

static void *field(qzo_options *options, size_t offset) { return (char *)options + offset; }

/* argp's options of a command; the key of entries[i] is FIRST_KEY + i. */
static void build_options(struct argp_option out[OPTIONS_MAX], const qzo_command *command) {
    memset(out, 0, OPTIONS_MAX * sizeof *out);
    for (int i = 0, count = 0; i < ENTRY_COUNT; i++) {
        if (!takes(command, &entries[i])) continue;
        out[count++] = (struct argp_option){.name = entries[i].name,
                                            .key = FIRST_KEY + i,
                                            .arg = entries[i].argument,
                                            .doc = entries[i].help};
    }
}

bool qzo_options_at(qzo_option_view *out, const qzo_command *command, int index) {
    for (int i = 0; i < ENTRY_COUNT; i++) {
        if (!takes(command, &entries[i]) || index-- > 0) continue;
        *out = (qzo_option_view){
            .name = entries[i].name, .argument = entries[i].argument, .help = entries[i].help};
        return true;
    }
    return false;
}

/* --- reading values --- */

static qzo_status read_int(int64_t *out, const option_entry *entry, const char *text) {
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || value < entry->min || value > entry->max)
        return entry->max == INT64_MAX
                   ? qzo_fail(QZO_ERR_USAGE,
                              "--%s: expected an integer of at least %" PRId64 ", found '%s'",
                              entry->name, entry->min, text)
                   : qzo_fail(QZO_ERR_USAGE,
                              "--%s: expected an integer from %" PRId64 " to %" PRId64
                              ", found '%s'",
                              entry->name, entry->min, entry->max, text);
    *out = value;
    return QZO_OK;
}

static qzo_status read_number(double *out, const option_entry *entry, const char *text) {
    char *end = NULL;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' ||
        !(value >= (double)entry->min && value <= (double)entry->max))
        return qzo_fail(QZO_ERR_USAGE,
                        "--%s: expected a number from %" PRId64 " to %" PRId64 ", found '%s'",
                        entry->name, entry->min, entry->max, text);
    *out = value;
    return QZO_OK;
}

/* "4500000000", "4.5GB", "4GiB" */
static qzo_status read_bytes(int64_t *out, const option_entry *entry, const char *text) {
    static const struct {
        const char *unit;
        double factor;
    } units[] = {{"", 1},         {"B", 1},        {"kB", 1e3},    {"KB", 1e3},
                 {"MB", 1e6},     {"GB", 1e9},     {"TB", 1e12},   {"KiB", 0x1p10},
                 {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40}};
    const double most = 0x1p62;
    size_t digits = strspn(text, "0123456789.");
    char *end = NULL;
    double value = strtod(text, &end);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        double size_bytes = value * units[i].factor;
        if (digits == 0 || end != text + digits || strcmp(end, units[i].unit) != 0) continue;
        if (!(size_bytes >= 1.0 && size_bytes <= most)) break;
        *out = (int64_t)size_bytes;
        return QZO_OK;
    }
    return qzo_fail(QZO_ERR_USAGE,
                    "--%s: expected a number of bytes, as 4500000000, 4.5GB or 4GiB, found '%s'",
                    entry->name, text);
}

/* The place of `text` among the words of `choices`, -1 where it is none of them. */
static int choice_index(const char *choices, const char *text) {
    size_t length = strlen(text);
    int index = 0;
    for (const char *at = choices;; at++, index++) {
        size_t word = strcspn(at, "|");
        if (word == length && memcmp(at, text, length) == 0) return index;
        at += word;
        if (*at == '\0') return -1;
    }
}

static qzo_status read_option(qzo_options *options, const option_entry *entry, char *text) {
    switch (entry->kind) {
    case KIND_FLAG: *(bool *)field(options, entry->offset) = true; return QZO_OK;
    case KIND_BYTES: return read_bytes(field(options, entry->offset), entry, text);
    case KIND_NUMBER: return read_number(field(options, entry->offset), entry, text);
    case KIND_INT: return read_int(field(options, entry->offset), entry, text);
    case KIND_CHOICE:
        if (choice_index(entry->argument, text) < 0)
            return qzo_fail(QZO_ERR_USAGE, "--%s: expected %s, found '%s'", entry->name,
                            entry->argument, text);
        break;
    case KIND_TEXT:
        if (text[0] == '\0') return qzo_fail(QZO_ERR_USAGE, "--%s: empty", entry->name);
        break;
    }
    *(const char **)field(options, entry->offset) = text;
    return QZO_OK;
}

/* Puts the next positional argument into its field. */
static qzo_status read_positional(qzo_options *options, const char *text, int index) {
    const char *word = options->command->arguments;
    for (int i = 0; i < index && word != NULL; i++) {
        const char *next = strchr(word, ' ');
        if (next == NULL && strstr(word, "...") != NULL) break; /* the last word, again and again */
        word = next != NULL ? next + 1 : NULL;
    }
    if (word != NULL && word[0] == '\0')
        return qzo_fail(QZO_ERR_USAGE, "%s takes options only, found '%s'", options->command->name,
                        text);
    if (word == NULL)
        return qzo_fail(QZO_ERR_USAGE, "%s takes %s, found '%s' after that", options->command->name,
                        options->command->arguments, text);
    size_t length = strcspn(word, " ");
    if (length > 3 && memcmp(word + length - 3, "...", 3) == 0) {
        if (options->task_count == QZO_TASKS_MAX)
            return qzo_fail(QZO_ERR_USAGE,
                            "%s takes at most %d tasks at a time, found '%s' after "
                            "these",
                            options->command->name, QZO_TASKS_MAX, text);
        options->task_paths[options->task_count++] = text;
        return QZO_OK;
    }
    if (memchr(word, '|', length) != NULL && choice_index(word, text) < 0)
        return qzo_fail(QZO_ERR_USAGE, "%s: expected %.*s, found '%s'", options->command->name,
                        (int)length, word, text);
    for (size_t i = 0; i < sizeof positionals / sizeof *positionals; i++) {
        const char **at = field(options, positionals[i].offset);
        if (strlen(positionals[i].word) != length || memcmp(positionals[i].word, word, length) != 0)
            continue;
        if (at == &options->trial && options->trial != NULL) at = &options->other_trial;
        *at = text;
    }
    return QZO_OK;
}

/* --- parsing --- */

/* argp's state of one command line. */
typedef struct parse {
    qzo_options *options;
    int positional_count;
    qzo_status status;
} parse;

static error_t parse_key(int key, char *argument, struct argp_state *state) {
    parse *p = state->input;
    if (key >= FIRST_KEY && key < FIRST_KEY + ENTRY_COUNT)
        p->status = read_option(p->options, &entries[key - FIRST_KEY], argument);
    else if (key == ARGP_KEY_ARG)
        p->status = read_positional(p->options, argument, p->positional_count++);
    else
        return ARGP_ERR_UNKNOWN;
    return p->status == QZO_OK ? 0 : EINVAL;
}

static qzo_status fail_unknown(const char *kind, const char *word, const char *const *known,
                               size_t count, const char *prefix) {
    const char *near = qzo_suggest(word, known, count);
    if (near != NULL)
        return qzo_fail(QZO_ERR_USAGE, "unknown %s '%s%s'; did you mean '%s%s'?", kind, prefix,
                        word, prefix, near);
    return qzo_fail(QZO_ERR_USAGE, "unknown %s '%s%s'; `qzo --help` lists them", kind, prefix,
                    word);
}

/* getopt's own messages name no nearest word and accept abbreviations, which would break as soon as
 * a new option shares the prefix: so words with dashes are looked at before argp sees them. */
static qzo_status check_words(const struct argp_option *options, int argc, char **argv) {
    const char *known[OPTIONS_MAX];
    size_t count = 0;
    while (options[count].name != NULL) {
        known[count] = options[count].name;
        count++;
    }
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (argv[i][0] != '-' || argv[i][1] == '\0') continue;
        if (argv[i][1] != '-')
            return qzo_fail(QZO_ERR_USAGE, "unknown option '%s'; options begin with two dashes",
                            argv[i]);
        char name[QZO_SUGGEST_WORD_BYTES_MAX];
        size_t length = strcspn(argv[i] + 2, "="), found = 0;
        bool has_value = argv[i][2 + length] == '=';
        if (length >= sizeof name) length = sizeof name - 1;
        memcpy(name, argv[i] + 2, length);
        name[length] = '\0';
        while (found < count && strcmp(known[found], name) != 0) found++;
        if (found == count) return fail_unknown("option", name, known, count, "--");
        if (options[found].arg == NULL && has_value)
            return qzo_fail(QZO_ERR_USAGE, "--%s takes no value", name);
        if (options[found].arg != NULL && !has_value && ++i == argc)
            return qzo_fail(QZO_ERR_USAGE, "--%s: expected %s, found nothing", name,
                            options[found].arg);
    }
    return QZO_OK;
}

/* Of greedy text there is nothing to draw, and settings of draws would be forgotten in silence. */
static qzo_status check_draws(const qzo_options *options) {
    const char *given = options->top_k > 0     ? "--top-k"
                        : options->top_p < 1.0 ? "--top-p"
                        : options->seed >= 0   ? "--seed"
                                               : NULL;
    if (given == NULL || options->temperature > 0.0) return QZO_OK;
    return qzo_fail(QZO_ERR_USAGE,
                    "%s: expected a --temperature above 0 beside it, found %g: text without one is "
                    "greedy and nothing is drawn",
                    given, options->temperature);
}

/* What must be there is there. */
static qzo_status check_complete(const qzo_options *options, int positional_count) {
    int wanted = options->command->arguments[0] != '\0';
    for (const char *at = options->command->arguments; *at != '\0'; at++) wanted += *at == ' ';
    if (positional_count < wanted)
        return qzo_fail(QZO_ERR_USAGE, "expected `qzo %s %s`, found %d of these %d words",
                        options->command->name, options->command->arguments, positional_count,
                        wanted);
    for (int i = 0; i < ENTRY_COUNT; i++) {
        const char *const *at =
            (const char *const *)(const void *)((const char *)options + entries[i].offset);
        bool missing = entries[i].kind == KIND_TEXT && *at == NULL;
        if (entries[i].kind == KIND_INT)
            missing = *(const int64_t *)(const void *)at < entries[i].min;
        if (entries[i].required && missing && takes(options->command, &entries[i]))
            return qzo_fail(QZO_ERR_USAGE, "%s needs --%s %s: %s", options->command->name,
                            entries[i].name, entries[i].argument, entries[i].help);
    }
    if (options->delta && options->journal)
        return qzo_fail(QZO_ERR_USAGE, "--delta and --journal exclude each other");
    if (options->merge && (options->delta || options->journal))
        return qzo_fail(QZO_ERR_USAGE, "--merge and %s exclude each other",
                        options->delta ? "--delta" : "--journal");
    if (options->csv && options->json)
        return qzo_fail(QZO_ERR_USAGE, "--csv and --json exclude each other");
    return check_draws(options);
}

static qzo_status parse_command(qzo_options *out, int argc, char **argv) {
    struct argp_option options[OPTIONS_MAX];
    build_options(options, out->command);
    qzo_status status = check_words(options, argc, argv);
    if (status != QZO_OK) return status;
    struct argp argp = {.options = options, .parser = parse_key};
    parse state = {.options = out};
    unsigned flags = ARGP_NO_ERRS | ARGP_NO_HELP | ARGP_NO_EXIT;
    error_t code = argp_parse(&argp, argc, argv, flags, NULL, &state);
    out->log_level = (qzo_log_level)choice_index(LEVELS, out->log_level_name);
    out->cpu_limit = (qzo_cpu_level)choice_index(CPU_LEVELS, out->cpu_limit_name);
    out->pairs = (qzo_pairs)choice_index(PAIRS, out->pairs_name);
    out->transport = (qzo_transport_choice)choice_index(TRANSPORTS, out->transport_name);
    if (out->help) return QZO_OK;
    if (state.status != QZO_OK) return state.status;
    if (code != 0) return qzo_fail(QZO_ERR_USAGE, "%s: %s", out->command->name, strerror(code));
    return check_complete(out, state.positional_count);
}

qzo_status qzo_options_parse(qzo_options *out, int argc, char **argv) {
    *out = (qzo_options){.backend_name = "auto",
                         .cpu_limit_name = "amx",
                         .log_level_name = "info",
                         .progress_name = "auto",
                         .transport_name = "auto",
                         .pairs_name = "auto",
                         .top_p = 1.0,
                         .seed = -1,
                         .example_limit = INT64_MAX,
                         .cpu_limit = QZO_CPU_WIDEST,
                         .log_level = QZO_LOG_INFO,
                         .step = -1,
                         .rank_count = 1,
                         .per_node = 8};
    if (argc < 2)
        return qzo_fail(QZO_ERR_USAGE, "expected a command, found none; `qzo --help` lists them");
    if (argv[1][0] == '-') {
        qzo_status status = check_words(program_options, argc, argv);
        if (status != QZO_OK) return status;
        out->help = strcmp(argv[1], "--help") == 0;
        out->version = strcmp(argv[1], "--version") == 0;
        return out->help || out->version
                   ? QZO_OK
                   : qzo_fail(QZO_ERR_USAGE, "expected a command, found '%s'", argv[1]);
    }
    const char *known[WORDS_MAX];
    size_t count = 0;
    for (const qzo_command *command = qzo_commands; command->name != NULL; command++) {
        known[count++] = command->name;
        if (strcmp(command->name, argv[1]) == 0) out->command = command;
    }
    if (out->command == NULL) return fail_unknown("command", argv[1], known, count, "");
    return parse_command(out, argc - 1, argv + 1);
}

/* --- printing --- */

void qzo_options_help(FILE *stream, const qzo_command *command) {
    char name[64] = "qzo";
    unsigned flags = ARGP_HELP_USAGE | ARGP_HELP_PRE_DOC | ARGP_HELP_LONG | ARGP_HELP_POST_DOC;
    if (command != NULL) {
        struct argp_option options[OPTIONS_MAX];
        build_options(options, command);
        struct argp argp = {
            .options = options, .args_doc = command->arguments, .doc = command->help};
        snprintf(name, sizeof name, "qzo %s", command->name);
        argp_help(&argp, stream, flags, name);
        return;
    }
    fprintf(stream,
            "Usage: qzo COMMAND ...\n"
            "Fine-tunes quantized neural networks by zeroth-order optimization of their scales,\n"
            "many trials at a time.\n\n");
    for (const qzo_command *at = qzo_commands; at->name != NULL; at++) {
        snprintf(name, sizeof name, "%s %s", at->name, at->arguments);
        fprintf(stream, "  %-26s %s\n", name, at->help);
    }
    fprintf(stream, "\n");
    for (const struct argp_option *at = program_options; at->name != NULL; at++)
        fprintf(stream, "  --%-24s %s\n", at->name, at->doc);
    fprintf(stream,
            "\n`qzo COMMAND --help` lists its options. TRIAL is a row of the table or the first\n"
            "digits of an id. Exit codes: 0 well; 1 some trial diverged or failed; 2 usage,\n"
            "configuration or an unreadable input; 3 environment; 70 the ranks disagree;\n"
            "75 interrupted, run the same command again.\n");
}

void qzo_options_log(const qzo_options *options) {
    for (int i = 0; i < ENTRY_COUNT; i++) {
        const void *at = (const char *)options + entries[i].offset;
        if (!takes(options->command, &entries[i])) continue;
        if (entries[i].kind == KIND_FLAG)
            qzo_log_debug("--%s %s", entries[i].name, *(const bool *)at ? "yes" : "no");
        else if (entries[i].kind == KIND_INT || entries[i].kind == KIND_BYTES)
            qzo_log_debug("--%s %" PRId64, entries[i].name, *(const int64_t *)at);
        else if (entries[i].kind == KIND_NUMBER)
            qzo_log_debug("--%s %.9g", entries[i].name, *(const double *)at);
        else
            qzo_log_debug("--%s %s", entries[i].name,
                          *(const char *const *)at != NULL ? *(const char *const *)at : "");
    }
}

const qzo_bnb_kind *qzo_quantize_kind(const qzo_options *options) {
    return options->quantize_name != NULL ? qzo_bnb_kind_find(options->quantize_name) : NULL;
}

int qzo_threads(const qzo_options *options, int local_rank_count) {
    if (options->thread_count > 0) return (int)options->thread_count;
    cpu_set_t usable; /* what mpirun, Slurm or taskset left this process */
    int cores = sched_getaffinity(0, sizeof usable, &usable) == 0 ? CPU_COUNT(&usable) : 1;
    int threads = cores / (local_rank_count > 0 ? local_rank_count : 1);
    return threads > 0 ? threads : 1;
}
