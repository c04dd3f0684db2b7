/* What the user asked for. One table of commands and one of options, both in options.c, make the
 * parser, the help texts and the printed configuration. */
#ifndef QZO_CLI_OPTIONS_H
#define QZO_CLI_OPTIONS_H

#include "base/cpu.h"
#include "base/log.h"
#include "base/status.h"
#include "comm/peers.h"
#include "weights/bnb_quantize.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { QZO_TASKS_MAX = 64 }; /* of one `qzo eval` */

/* Strings are borrowed from argv or static; a command's fields that it has no option for are at
 * their defaults. */
typedef struct qzo_options {
    const struct qzo_command *command; /* NULL: help or version of the whole program */
    bool help, version;

    const char *sweep_path; /* SWEEP.yaml */
    const char *folder;     /* DIR of report, replay, journal, diff, export */
    const char *trial, *other_trial;
    const char *model_path;                /* MODEL, or --model */
    const char *task_path;                 /* TASK, or --task */
    const char *task_paths[QZO_TASKS_MAX]; /* TASK... */
    int64_t task_count;

    const char *out_folder;     /* --out */
    const char *quantize_name;  /* --quantize; NULL: linear layers stay as they are */
    const char *backend_name;   /* --backend; default "auto" */
    const char *cpu_limit_name; /* --cpu-limit */
    qzo_cpu_level cpu_limit;
    int64_t thread_count;       /* --threads; 0: cores / ranks of this host, see qzo_threads */
    const char *log_level_name; /* --log-level */
    qzo_log_level log_level;
    const char *faults;         /* --inject-fault; NULL: none */
    const char *progress_name;  /* --progress; default "auto" */
    const char *transport_name; /* --transport; default "auto" */
    qzo_transport_choice transport;
    const char *pairs_name; /* --pairs; default "auto" */
    qzo_pairs pairs;
    int64_t memory_limit_bytes; /* --memory-limit; 0: none */
    bool quiet;                 /* no table at the end of a run */
    const char *slice_text;     /* --slice; NULL: the whole sweep */
    const char *retry_name;     /* --retry; NULL: nothing is run again */
    int64_t end_time;           /* --end-time; 0: none */

    bool csv, json;
    bool mean;    /* report's means over seeds */
    int64_t step; /* --step; -1: the last one */
    bool check;

    const char *to_folder; /* export's --to */
    bool delta, journal;   /* export's --delta, --journal */
    bool merge;            /* export's --merge */
    bool no_eval;          /* export's --no-eval */

    /* Of eval. */
    const char *eval_trial;       /* --trial; NULL: MODEL is a model folder */
    const char *split_name;       /* --split; NULL: dev and test */
    const char *predictions_path; /* --predictions; NULL: none */
    const char *calibration_path; /* --calibration; NULL: none */
    int64_t example_limit;        /* --limit */
    int64_t bootstrap_seed;       /* --bootstrap-seed */

    const char *ids_path; /* --ids */
    int64_t new_count;    /* --max-new */
    bool print_ids, stop_at_eos;
    bool each_line;        /* --each-line */
    const char *stop_text; /* --stop; NULL: none */
    double temperature;    /* of generate: 0 is greedy */
    int64_t top_k;         /* 0: all */
    double top_p;          /* 1: all */
    int64_t seed;          /* -1: not given, 0 */

    int64_t rank_count;    /* plan's --ranks */
    int64_t per_node;      /* plan's --per-node */
    bool calibrate;        /* plan's --calibrate */
    const char *time_text; /* plan's --time; NULL: none */
    int64_t row_count;     /* bench's --rows; 0: its default */
    int64_t batch;         /* bench's --batch and --samples; 0: a trial's default */
    int64_t sample_count;
    int64_t step_count;   /* bench's --steps; 0: 5 */
    int64_t record_count; /* bench's --records; 0: 1 */

    const char *shell_name; /* bash|zsh of completion */
} qzo_options;

typedef struct qzo_command {
    const char *name;
    const char *arguments;                  /* "DIR TRIAL", as help shows them; "a|b": a choice */
    const char *help;                       /* one sentence */
    int (*run)(const qzo_options *options); /* returns the exit code */
} qzo_command;

/* Ends with a NULL name; in the order of `--help`. */
extern const qzo_command qzo_commands[];

/* An option as help shows it. */
typedef struct qzo_option_view {
    const char *name;     /* without "--" */
    const char *argument; /* "DIR", "auto|cpu|cuda"; NULL where it takes none */
    const char *help;
} qzo_option_view;

/* The index-th option of a command; false behind its last one. */
bool qzo_options_at(qzo_option_view *out, const qzo_command *command, int index);

/* Reads the command line. QZO_ERR_USAGE tells what was wrong, with the nearest known word. Where
 * out->help or out->version is set, nothing else was checked. */
qzo_status qzo_options_parse(qzo_options *out, int argc, char **argv);

/* The help of a command, or of the program (command NULL). */
void qzo_options_help(FILE *stream, const qzo_command *command);

/* Logs every option of the command with its value, at debug level. */
void qzo_options_log(const qzo_options *options);

/* --threads, or this host's usable cores divided by its ranks, at least 1. */
int qzo_threads(const qzo_options *options, int local_rank_count);

/* What --quantize names; NULL: nothing. */
const qzo_bnb_kind *qzo_quantize_kind(const qzo_options *options);

#endif
