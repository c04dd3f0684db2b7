/* Picks the command and leaves with its exit code. */
#include "cli/cli.h"

#include "backend/cuda_module.h"
#include "base/cpu.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#ifdef QZO_HAVE_CUDA
enum { QZO_HAS_CUDA = 1 };
#else
enum { QZO_HAS_CUDA = 0 };
#endif

static void print_version(void) {
    printf("qzo %s\ncommit %s\nbuild %s\ncompiler %s\nbackends", QZO_VERSION, QZO_COMMIT,
           qzo_build_id(), QZO_COMPILER);
    for (const qzo_backend_entry *entry = qzo_backends; entry->name != NULL; entry++)
        if (QZO_HAS_CUDA || strncmp(entry->name, "cuda", 4) != 0) printf(" %s", entry->name);
    printf(" (%s)\ntransports local", qzo_cpu_name(qzo_cpu()));
#ifdef QZO_HAVE_MPI
    printf(" MPI");
#endif
#ifdef QZO_HAVE_NCCL
    printf(" NCCL");
#endif
    printf("\n");
}

int main(int argc, char **argv) {
    qzo_options options;
    qzo_status status = qzo_options_parse(&options, argc, argv);
    if (status != QZO_OK) return qzo_exit_report(status, &options);
    if (options.help) {
        qzo_options_help(stdout, options.command);
        return qzo_exit_report(QZO_OK, &options);
    }
    if (options.version) {
        print_version();
        return qzo_exit_report(QZO_OK, &options);
    }
    qzo_log_configure(options.log_level, 0, 1);
    qzo_bus_error_watch();
    qzo_cpu_limit(options.cpu_limit);
    qzo_options_log(&options);
    /* A sweep outlives whoever read its output; other commands end with their reader, as `| head`
     * expects. */
    if (options.command->run == qzo_cmd_run) signal(SIGPIPE, SIG_IGN);
    return options.command->run(&options);
}
