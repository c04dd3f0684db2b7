/* The commands and what they share. Only this layer prints, reads the environment or exits.
 *
 * A command writes data to stdout and returns the program's exit code. Where it fails, it returns
 * qzo_exit_report(status), which prints the stored sentence on stderr. */
#ifndef QZO_CLI_CLI_H
#define QZO_CLI_CLI_H

#include "base/status.h"
#include "cli/options.h"
#include "comm/comm.h"
#include "sweep/results.h"

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

enum {
    QZO_EXIT_OK = 0,
    QZO_EXIT_TRIALS = 1, /* some trial diverged or failed */
    QZO_EXIT_USAGE = 2,  /* usage, configuration, an unreadable model or task */
    QZO_EXIT_ENVIRONMENT = 3,
    QZO_EXIT_DESYNC = 70,
    QZO_EXIT_INTERRUPTED = 75
};

/* src/cli/cmd_*.c */
int qzo_cmd_plan(const qzo_options *options);
int qzo_cmd_run(const qzo_options *options);
int qzo_cmd_report(const qzo_options *options);
int qzo_cmd_replay(const qzo_options *options);
int qzo_cmd_journal(const qzo_options *options);
int qzo_cmd_diff(const qzo_options *options);
int qzo_cmd_inspect(const qzo_options *options);
int qzo_cmd_generate(const qzo_options *options);
int qzo_cmd_bench(const qzo_options *options);
int qzo_cmd_status(const qzo_options *options);
int qzo_cmd_eval(const qzo_options *options);
int qzo_cmd_export(const qzo_options *options);
int qzo_cmd_doctor(const qzo_options *options);
int qzo_cmd_completion(const qzo_options *options);

/* --- src/cli/output.c --- */

int qzo_exit_code(qzo_status status);

/* Prints "qzo: SENTENCE" where status is an error, and at --log-level debug where it came from;
 * flushes stdout. A stdout that could not be written is an error too. Returns the exit code. */
int qzo_exit_report(qzo_status status, const qzo_options *options);

enum { QZO_BYTES_TEXT_BYTES = 32 };

/* "17 B", "1.23 GiB"; returns out. */
const char *qzo_bytes_text(char out[QZO_BYTES_TEXT_BYTES], int64_t size_bytes);

/* Columns that qzo_text_print takes for a text: characters of UTF-8, not bytes. */
int qzo_text_width(const char *text);

/* Prints what others wrote, its control characters as escapes (base/visible.h); its width. */
int qzo_text_print(FILE *stream, const char *text, size_t text_bytes);

/* Prints a JSON document on stdout and releases it; NULL means that memory ran out building it. */
qzo_status qzo_json_print(json_t *root);

/* --- src/cli/build_id.c --- */

enum { QZO_BUILD_ID_BYTES = 17, QZO_BUILD_TEXT_BYTES = 256 };

/* 16 hex digits, other ones for every program that the linker made of other parts. */
const char *qzo_build_id(void);

/* Version, commit, build and compiler: what the ranks of a world must have in common. */
const char *qzo_build_text(void);

/* --- src/cli/table.c --- */

/* The table of trials for people: aligned columns. */
void qzo_table_print(FILE *stream, const qzo_results *results);
/* A field of RFC 4180: quoted only where it must be. */
void qzo_table_print_csv_field(FILE *stream, const char *text);

void qzo_table_print_csv(FILE *stream, const qzo_results *results);
qzo_status qzo_table_print_json(const qzo_results *results); /* on stdout */

/* --- src/cli/bus_error.c --- */

/* From now on a mapped file that became shorter ends the program with its name and exit code 3. */
void qzo_bus_error_watch(void);

/* --- src/cli/environment.c: the only place that reads environment variables --- */

/* How the program was started. */
qzo_launch qzo_environment_launch(void);

/* The job's number under Slurm, for the lock's text; NULL elsewhere. */
const char *qzo_environment_job(void);

#endif
