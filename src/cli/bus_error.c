/* A model file that another process cuts while it is mapped: the kernel sends SIGBUS for the bytes
 * that are gone. Nothing that was computed from them may go on, so the program ends as if it were
 * killed, which journals are made for, but says why. */
#include "base/file_map.h"
#include "cli/cli.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

/* Nothing can be done about a message that cannot be written. */
static void say(const char *text) {
    ssize_t written = write(STDERR_FILENO, text, strlen(text));
    (void)written;
}

static void report(int number, siginfo_t *info, void *context) {
    (void)context;
    const char *path = qzo_file_map_path_at(info->si_addr);
    if (path == NULL) { /* not ours: end as without a handler */
        signal(number, SIG_DFL);
        raise(number);
        return;
    }
    say("qzo: ");
    say(path);
    say(": the file became shorter while it was in use, or its disk fails\n");
    _exit(QZO_EXIT_ENVIRONMENT);
}

void qzo_bus_error_watch(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = report;
    action.sa_flags = SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, NULL);
}
