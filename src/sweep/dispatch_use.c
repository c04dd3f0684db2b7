#include "sweep/dispatcher.h"

#include "base/clock.h"
#include "base/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

typedef struct rank_use {
    uint64_t bytes_sent;
    double wait_seconds, idle_seconds;
    int64_t peak_bytes, device_used_bytes, load_count;
} rank_use;

static qzo_status use_of(rank_use *out, const dispatcher *d) {
    const qzo_backend *backend = d->settings->backend;
    qzo_memory_use memory = {0};
    qzo_status status = backend->ops->memory_use(backend, &memory);
    *out = (rank_use){.bytes_sent = d->bytes_sent,
                      .wait_seconds = d->wait_seconds,
                      .idle_seconds = d->idle_seconds,
                      .peak_bytes = memory.peak_bytes,
                      .device_used_bytes = memory.device_used_bytes,
                      .load_count = d->benches.load_count};
    qzo_log_debug("memory: at most %lld bytes of own allocations, %lld planned; %lld in use on the "
                  "device, driver, libraries and other processes included",
                  (long long)memory.peak_bytes, (long long)d->settings->residency.own_bytes,
                  (long long)memory.device_used_bytes);
    return status;
}

/* On rank 0: what the ranks told each other, how long they waited for it, and their memory. */
static void log_use(const dispatcher *d, const rank_use *all) {
    int count = d->settings->world->size, slowest = 0, largest = 0, fullest = 0;
    const qzo_residency *residency = &d->settings->residency;
    uint64_t sum_bytes = 0;
    int64_t load_count = 0;
    for (int rank = 0; rank < count; rank++) {
        sum_bytes += all[rank].bytes_sent;
        load_count += all[rank].load_count;
        if (all[rank].wait_seconds > all[slowest].wait_seconds) slowest = rank;
        if (all[rank].peak_bytes > all[largest].peak_bytes) largest = rank;
        if (all[rank].device_used_bytes > all[fullest].device_used_bytes) fullest = rank;
    }
    if (residency->model_count > 1)
        qzo_log_info("models: %lld loaded %lld times on %d ranks, at most %lld at a time on each",
                     (long long)residency->model_count, (long long)load_count, count,
                     (long long)residency->kept_count);
    if (count > 1)
        qzo_log_info("%d ranks sent %llu bytes over %s; rank %d waited longest for the others: "
                     "%.1f s",
                     count, (unsigned long long)sum_bytes, d->group->ops->name, slowest,
                     all[slowest].wait_seconds);
    qzo_log_info("memory of a rank: at most %lld bytes of own allocations (rank %d), %lld planned",
                 (long long)all[largest].peak_bytes, largest,
                 (long long)d->settings->residency.own_bytes);
    if (all[fullest].device_used_bytes > 0)
        qzo_log_info("memory of a device: %lld bytes in use (rank %d), driver, libraries and other "
                     "processes included",
                     (long long)all[fullest].device_used_bytes, fullest);
}

/* One line per start in log/ranks.jsonl, written at once: slices share the file. A figure less is
 * no reason to stop a sweep. */
static void write_use(const dispatcher *d, const rank_use *all) {
    const qzo_dispatch_settings *s = d->settings;
    char path[PATH_BYTES], *line = NULL;
    size_t size = 0;
    FILE *text = open_memstream(&line, &size);
    if (text == NULL) return;
    fprintf(text, "{\"slice\": %lld, \"slices\": %lld, \"seconds\": %.6f, \"ranks\": [",
            (long long)s->slice->index, (long long)s->slice->count,
            qzo_clock_seconds() - d->began_at);
    for (int rank = 0; rank < s->world->size; rank++)
        fprintf(text,
                "%s{\"host\": \"%s\", \"wait_seconds\": %.6f, \"idle_seconds\": %.6f, "
                "\"bytes_sent\": %llu}",
                rank == 0 ? "" : ", ", s->peers[rank].host, all[rank].wait_seconds,
                all[rank].idle_seconds, (unsigned long long)all[rank].bytes_sent);
    fprintf(text, "]}\n");
    bool whole = fclose(text) == 0;
    snprintf(path, sizeof path, "%s/log/ranks.jsonl", s->folder);
    int file = whole ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : -1;
    if (file >= 0 && write(file, line, size) != (ssize_t)size)
        qzo_log_warn("%s: cannot be written", path);
    if (file >= 0) close(file);
    free(line);
}

qzo_status qzo_dispatch_report_use(const dispatcher *d) {
    qzo_status status = QZO_OK;
    qzo_comm *world = d->settings->world;
    rank_use mine = {0}, *all = calloc((size_t)world->size, sizeof *all);
    if (all == NULL)
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for %d ranks", world->size);
    else
        status = use_of(&mine, d);
    QZO_TRY(qzo_comm_worst_status(world, status));
    QZO_TRY(qzo_comm_gather(world, all, &mine, sizeof mine));
    if (is_world_root(d)) {
        log_use(d, all);
        write_use(d, all);
    }
cleanup:
    free(all);
    return status;
}
