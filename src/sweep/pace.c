#include "sweep/pace.h"

#include <stdio.h>
#include <string.h>

enum { PATH_BYTES = 4096, LINE_BYTES = 1024, EVENT_BYTES = 32 };

/* One line of a trial's timing; false for those of another kind. */
typedef struct moment {
    char event[EVENT_BYTES];
    long long step, ranks;
    double seconds; /* since the trial was given to its group */
} moment;

static bool read_moment(moment *out, const char *line) {
    return sscanf(line,
                  "{\"event\": \"%31[a-z]\", \"step\": %lld, \"ranks\": %lld, \"seconds\": %lf,",
                  out->event, &out->step, &out->ranks, &out->seconds) == 4;
}

/* Each start of a trial writes "started" and then, as it goes on, lines with more steps. */
static double slowest_of(FILE *file, int64_t ranks) {
    char line[LINE_BYTES];
    moment start = {.step = -1}, now;
    double slowest = 0.0;
    while (fgets(line, sizeof line, file) != NULL) {
        if (!read_moment(&now, line)) continue;
        if (strcmp(now.event, "started") == 0) {
            start = now;
            continue;
        }
        if (start.step < 0 || now.step <= start.step || now.ranks != ranks) continue;
        double pace = (now.seconds - start.seconds) / (double)(now.step - start.step);
        if (pace > slowest) slowest = pace;
    }
    return slowest;
}

double qzo_pace_read(const qzo_listing *listing, const char *folder, int64_t ranks) {
    double slowest = 0.0;
    for (int64_t i = 0; i < listing->trial_count; i++) {
        char path[PATH_BYTES], id[QZO_DIGEST_TEXT_BYTES];
        qzo_digest_text(id, &listing->trials[i].id);
        snprintf(path, sizeof path, "%s/timing/%s.jsonl", folder, id);
        FILE *file = fopen(path, "r");
        if (file == NULL) continue;
        double pace = slowest_of(file, ranks);
        if (pace > slowest) slowest = pace;
        fclose(file);
    }
    return slowest;
}
