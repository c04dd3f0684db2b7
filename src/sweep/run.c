#include "sweep/run.h"

#include "base/file_io.h"
#include "base/log.h"
#include "sweep/contents.h"
#include "sweep/decisions.h"
#include "sweep/dispatch.h"
#include "sweep/forks.h"
#include "sweep/kinds.h"
#include "sweep/results.h"
#include "sweep/retry.h"
#include "sweep/schedule.h"
#include "sweep/sweep_spec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PATH_BYTES = 4096, NAMED_TRIALS_MAX = 20 };

static const size_t SWEEP_FILE_BYTES_MAX = (size_t)1 << 20;

typedef struct run {
    const qzo_run_settings *settings;
    qzo_peer *peers; /* (world->size) */
    qzo_sweep_spec *sweep;
    qzo_contents contents; /* rank 0 */
    qzo_grid *grid;
    qzo_kinds kinds; /* rank 0 */
    qzo_residency residency;
    qzo_slice_locks locks;    /* rank 0 */
    qzo_decisions *decisions; /* rank 0 */
    qzo_scheduling scheduling;
    qzo_forks forks;
    qzo_listing *listing;   /* rank 0: as it is written */
    qzo_schedule *schedule; /* rank 0 */
    qzo_run_report *report;
} run;

static bool is_root(const run *r) { return r->settings->world->rank == 0; }

/* --- the ranks --- */

static qzo_status check_peers(run *r) {
    const qzo_run_settings *s = r->settings;
    qzo_status status = qzo_peers_gather(&r->peers, s->world, s->backend, s->version);
    return status == QZO_OK ? qzo_peers_check_alike(r->peers, s->world->size) : status;
}

/* A transport that cannot be had is refused before the folder is touched; every rank looks at all
 * groups, with the same result. */
static qzo_status check_transport(const run *r) {
    int64_t ranks = r->settings->world->size;
    return qzo_transport_check(r->settings->transport, r->peers, ranks,
                               qzo_dispatch_group_size(ranks, r->sweep->ranks_per_trial));
}

/* --- the sweep file: read by rank 0, the same bytes for all --- */

static qzo_status read_sweep(run *r) {
    qzo_status status = QZO_OK;
    qzo_comm *world = r->settings->world;
    char *text = NULL, *folder = NULL;
    size_t text_bytes = 0;
    if (is_root(r))
        status = qzo_file_read(&text, &text_bytes, r->settings->sweep_path, SWEEP_FILE_BYTES_MAX);
    if (status == QZO_ERR_IO) status = QZO_ERR_NOT_FOUND; /* as qzo_sweep_spec_load has it */
    QZO_TRY(qzo_comm_worst_status(world, status));
    QZO_TRY(qzo_comm_broadcast(world, &text_bytes, sizeof text_bytes, 0));
    if (!is_root(r)) text = calloc(1, text_bytes + 1);
    folder = qzo_path_folder(r->settings->sweep_path);
    if (text == NULL || folder == NULL)
        status = qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", r->settings->sweep_path);
    QZO_TRY(qzo_comm_worst_status(world, status));
    QZO_TRY(qzo_comm_broadcast(world, text, text_bytes, 0));
    status = qzo_sweep_spec_parse(&r->sweep, text, text_bytes, r->settings->sweep_path, folder,
                                  &r->settings->additions);
    QZO_TRY(qzo_comm_worst_status(world, status));
cleanup:
    free(text);
    free(folder);
    return status;
}

/* Rank 0 reads the contents; every rank expands in the same order, so the broadcasts meet. */
static qzo_status shared_digest(qzo_digest *out, const char *path, bool is_model, void *context) {
    run *r = context;
    qzo_status status = QZO_OK;
    if (is_root(r)) status = qzo_contents_digest(out, path, is_model, &r->contents);
    status = qzo_comm_worst_status(r->settings->world, status);
    if (status != QZO_OK) return status;
    return qzo_comm_broadcast(r->settings->world, out, sizeof *out, 0);
}

/* --- before anything starts --- */

/* Why the trial cannot run, QZO_OK where it can. */
static qzo_status check_kind(const run *r, const qzo_kind *kind) {
    const qzo_content *model = qzo_contents_find(&r->contents, kind->spec->model_path, true);
    const qzo_content *task = qzo_contents_find(&r->contents, kind->spec->task_path, false);
    if (model != NULL && model->status != QZO_OK)
        return qzo_fail(model->status, "%s", model->message);
    if (task != NULL && task->status != QZO_OK) return qzo_fail(task->status, "%s", task->message);
    if (kind->status != QZO_OK) return qzo_fail(kind->status, "%s", kind->message);
    return QZO_OK;
}

/* A sweep of which no trial can run is a mistake of its file: nothing is started. A trial that
 * cannot run beside others that can is marked as failed later. */
static qzo_status check_any_runs(const run *r) {
    for (int64_t i = 0; i < r->kinds.count; i++)
        if (check_kind(r, &r->kinds.entries[i]) == QZO_OK) return QZO_OK;
    return r->kinds.count > 0 ? check_kind(r, &r->kinds.entries[0]) : QZO_OK;
}

/* What this rank may take; 0: not known. The ranks that share a device share what it has. */
static qzo_status limit_of_rank(int64_t *out, int64_t *sharers, const run *r) {
    const qzo_run_settings *s = r->settings;
    const qzo_peer *mine = &r->peers[s->world->rank];
    qzo_memory_use use;
    qzo_status status = s->backend->ops->memory_use(s->backend, &use);
    if (status != QZO_OK) return status;
    *sharers = 0;
    for (int i = 0; i < s->world->size; i++)
        *sharers += strcmp(r->peers[i].device, mine->device) == 0;
    *out = s->memory_limit_bytes > 0 ? s->memory_limit_bytes : use.device_bytes / *sharers;
    return QZO_OK;
}

/* The least that any rank may take. */
static qzo_status limit_of_ranks(int64_t *out, qzo_comm *world, int64_t limit) {
    qzo_status status = QZO_OK;
    int64_t *limits = calloc((size_t)world->size, sizeof *limits);
    if (limits == NULL)
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for %d ranks", world->size);
    QZO_TRY(qzo_comm_worst_status(world, status));
    QZO_TRY(qzo_comm_gather(world, limits, &limit, sizeof limit));
    *out = limit;
    for (int rank = 0; rank < world->size; rank++)
        if (limits[rank] < *out) *out = limits[rank];
cleanup:
    free(limits);
    return status;
}

/* On rank 0: the kinds of trials, without pairs where those leave a rank no room. */
static qzo_status measure_kinds(run *r, qzo_pairs *pairs, int64_t limit) {
    const qzo_run_settings *s = r->settings;
    const qzo_kinds_settings settings = {s->backend_name, s->thread_count, s->pairs, limit};
    qzo_status status = qzo_kinds_measure(&r->kinds, pairs, r->grid, &settings);
    if (status == QZO_OK && *pairs != s->pairs)
        qzo_log_info("both signs of a perturbation at once take more than %lld bytes on a rank: "
                     "they are computed one after the other",
                     (long long)limit);
    return status == QZO_OK ? check_any_runs(r) : status;
}

/* Rank 0 plans the memory of a rank, how many models it keeps loaded, and whether it has room for
 * pairs; each rank compares it with what it may take, before anything is loaded. */
static qzo_status plan_memory(run *r) {
    qzo_status status = QZO_OK;
    const qzo_run_settings *s = r->settings;
    int64_t limit = 0, least = 0, sharers = 0;
    int32_t pairs = (int32_t)s->pairs;
    QZO_TRY(qzo_comm_worst_status(s->world, limit_of_rank(&limit, &sharers, r)));
    QZO_TRY(limit_of_ranks(&least, s->world, limit));
    if (is_root(r)) {
        qzo_pairs planned;
        status = measure_kinds(r, &planned, least);
        pairs = (int32_t)planned;
        if (status == QZO_OK)
            status = qzo_kinds_check_limit(&r->kinds, s->memory_limit_bytes, "--memory-limit");
        if (status == QZO_OK) status = qzo_kinds_residency(&r->residency, &r->kinds, least);
    }
    QZO_TRY(qzo_comm_worst_status(s->world, status));
    QZO_TRY(qzo_comm_broadcast(s->world, &r->residency, sizeof r->residency, 0));
    QZO_TRY(qzo_comm_broadcast(s->world, &pairs, sizeof pairs, 0));
    if (pairs == QZO_PAIRS_NEVER) s->backend->pair_rows_max = 0;
    if (limit > 0 && r->residency.rank_bytes > limit)
        status = qzo_fail(QZO_ERR_MEMORY,
                          "a rank takes %lld bytes, %s of %s has %lld bytes for %lld ranks: see "
                          "`qzo plan`",
                          (long long)r->residency.rank_bytes, r->peers[s->world->rank].device,
                          r->peers[s->world->rank].host, (long long)(limit * sharers),
                          (long long)sharers);
    status = qzo_comm_worst_status(s->world, status);
cleanup:
    return status;
}

static qzo_status create_folders(const run *r) {
    static const char *const parts[] = {"", "/trials", "/timing", "/log", "/cache"};
    char path[PATH_BYTES];
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        snprintf(path, sizeof path, "%s%s", r->settings->out_folder, parts[i]);
        qzo_status status = qzo_folder_create(path);
        /* A place where no folder can be made is the environment's fault, whatever is missing. */
        if (status != QZO_OK) return status == QZO_ERR_NOT_FOUND ? QZO_ERR_IO : status;
    }
    return QZO_OK;
}

static int by_bytes(const void *a, const void *b) { return memcmp(a, b, sizeof(qzo_digest)); }

static bool has_id(const qzo_digest *sorted, int64_t count, const qzo_digest *id) {
    return bsearch(id, sorted, (size_t)count, sizeof *sorted, by_bytes) != NULL;
}

static void name_trial(const char *what, const qzo_digest *id, char *const *keys_or_null,
                       const char *const *grid_keys, char *const *values, int64_t count) {
    char id_text[QZO_DIGEST_TEXT_BYTES], line[1024] = "";
    qzo_digest_text(id_text, id);
    for (int64_t i = 0; i < count; i++) {
        size_t used = strlen(line);
        snprintf(line + used, sizeof line - used, " %s=%s",
                 keys_or_null != NULL ? keys_or_null[i] : grid_keys[i], values[i]);
    }
    qzo_log_info("%s: %s%s", what, id_text, line);
}

/* Whether an earlier sweep file asked for it, in this folder: its journal is still there. */
static bool has_journal(const run *r, const qzo_digest *id) {
    struct stat found;
    char *path = qzo_journal_path(r->settings->out_folder, id);
    bool exists = path != NULL && stat(path, &found) == 0;
    free(path);
    return exists;
}

/* What a changed sweep file adds and drops; nothing of it is deleted. */
static void report_changes(const run *r, const qzo_listing *listing) {
    int64_t added = 0, came_back = 0, dropped = 0, listed = qzo_listing_asked(listing);
    int64_t asked = r->grid->trial_count;
    qzo_digest *before = calloc((size_t)listed + 1, sizeof *before);
    qzo_digest *now = calloc((size_t)asked + 1, sizeof *now);
    if (before == NULL || now == NULL) goto cleanup; /* what is lost is a line of the log */
    for (int64_t i = 0; i < listed; i++) before[i] = listing->trials[i].id;
    for (int64_t i = 0; i < asked; i++) now[i] = r->grid->trials[i].id;
    qsort(before, (size_t)listed, sizeof *before, by_bytes);
    qsort(now, (size_t)asked, sizeof *now, by_bytes);
    for (int64_t i = 0; i < r->grid->trial_count; i++) {
        const qzo_grid_trial *trial = &r->grid->trials[i];
        if (has_id(before, listed, &trial->id)) continue;
        bool is_back = has_journal(r, &trial->id);
        if ((is_back ? ++came_back : ++added) > NAMED_TRIALS_MAX) continue;
        name_trial(is_back ? "asked for again, results kept" : "new trial", &trial->id, NULL,
                   (const char *const *)r->grid->swept_keys, trial->values, r->grid->swept_count);
    }
    for (int64_t i = 0; i < listed; i++) {
        const qzo_listed_trial *trial = &listing->trials[i];
        if (has_id(now, asked, &trial->id) || ++dropped > NAMED_TRIALS_MAX) continue;
        name_trial("no longer asked for, results kept", &trial->id, listing->swept_keys, NULL,
                   trial->values, listing->swept_count);
    }
    if (added + came_back + dropped > 0)
        qzo_log_info(
            "the sweep file changed: %lld new trials, %lld asked for again, %lld no longer "
            "asked for",
            (long long)added, (long long)came_back, (long long)dropped);
cleanup:
    free(before);
    free(now);
}

static qzo_status write_sweep_copy(const run *r) {
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/sweep.yaml", r->settings->out_folder);
    return qzo_file_replace(path, r->sweep->text, r->sweep->text_bytes);
}

static bool same_list(const run *r, const qzo_listing *listing) {
    bool same = qzo_listing_asked(listing) == r->grid->trial_count;
    for (int64_t i = 0; same && i < r->grid->trial_count; i++)
        same = qzo_digest_equal(&listing->trials[i].id, &r->grid->trials[i].id);
    return same;
}

/* Forks are listed with the values of these alone. */
static bool same_columns(const run *r, const qzo_listing *listing) {
    bool same = listing->swept_count == r->grid->swept_count;
    for (int64_t k = 0; same && k < listing->swept_count; k++)
        same = strcmp(listing->swept_keys[k], r->grid->swept_keys[k]) == 0;
    return same;
}

/* Decisions about rungs hold for the trials they were taken among. */
static qzo_status check_rungs_kept(const run *r, const qzo_listing *listing) {
    const char *name = r->scheduling.ops->name;
    if (r->scheduling.ops->has_rungs && !qzo_slice_is_whole(&r->settings->slice))
        return qzo_fail(QZO_ERR_USAGE,
                        "--slice: expected scheduler fifo, found %s, whose "
                        "decisions compare all trials",
                        name);
    if (r->scheduling.ops->has_rungs && r->settings->retry)
        return qzo_fail(QZO_ERR_USAGE,
                        "--retry: expected scheduler fifo, found %s, whose "
                        "decisions are taken already",
                        name);
    bool has_rungs = r->scheduling.ops->has_rungs || listing->scheduling.ops->has_rungs;
    if (!has_rungs || listing->trial_count == 0) return QZO_OK;
    if (same_list(r, listing) && qzo_scheduling_equal(&r->scheduling, &listing->scheduling) &&
        (listing->fork_count == 0 || same_columns(r, listing)))
        return QZO_OK;
    return qzo_fail(QZO_ERR_CONFIG,
                    "%s holds trials of scheduler %s; expected the same trials and settings of the "
                    "scheduler (with forks, the same swept keys too), or another --out",
                    r->settings->out_folder, listing->scheduling.ops->name);
}

/* While other slices run, the list of trials is theirs too. */
static qzo_status check_same_list(const run *r, const qzo_listing *listing) {
    return same_list(r, listing)
               ? QZO_OK
               : qzo_fail(QZO_ERR_BUSY,
                          "%s: other slices run there, of a sweep file with other trials",
                          r->settings->out_folder);
}

/* The list of trials; with slices it stands in a file that none of them keeps open. */
static qzo_status write_list(run *r) {
    qzo_status status = QZO_OK;
    qzo_decisions *list = NULL;
    char name[QZO_SLICE_NAME_BYTES];
    bool changed = false;
    QZO_TRY(qzo_decisions_open(&list, r->settings->out_folder, QZO_DECISIONS_NAME));
    QZO_TRY(qzo_decisions_grid(list, r->sweep->name, r->grid, &r->scheduling, &changed));
    QZO_TRY(write_sweep_copy(r));
    if (qzo_slice_is_whole(&r->settings->slice)) {
        r->decisions = list;
        return QZO_OK;
    }
    qzo_slice_decisions_name(name, &r->settings->slice);
    QZO_TRY(qzo_decisions_open(&r->decisions, r->settings->out_folder, name));
cleanup:
    qzo_decisions_close(list);
    return status;
}

static qzo_status retry(const run *r) {
    qzo_status status = QZO_OK;
    qzo_results *results = NULL;
    int64_t count = 0;
    QZO_TRY(qzo_results_load(&results, r->settings->out_folder));
    QZO_TRY(qzo_retry(&count, results, r->settings->out_folder, &r->settings->slice,
                      r->settings->retried, r->decisions));
    qzo_log_info("%lld %s trials are run anew, their old journals kept", (long long)count,
                 qzo_outcome_name(r->settings->retried));
cleanup:
    qzo_results_free(results);
    return status;
}

/* Rank 0: folder, locks, decisions. */
static qzo_status open_folder(run *r) {
    qzo_status status = QZO_OK;
    qzo_listing *listing = NULL;
    const char *folder = r->settings->out_folder;
    QZO_TRY(create_folders(r));
    QZO_TRY(qzo_slice_lock(&r->locks, folder, &r->settings->slice, r->settings->job));
    if (r->locks.took_over)
        qzo_log_warn("%s/lock was left by a process that is gone: taken over", folder);
    QZO_TRY(qzo_listing_load(&listing, folder));
    QZO_TRY(check_rungs_kept(r, listing));
    if (r->locks.others) QZO_TRY(check_same_list(r, listing));
    if (listing->trial_count > 0) report_changes(r, listing);
    QZO_TRY(write_list(r));
    if (r->settings->retry) QZO_TRY(retry(r));
    qzo_folder_lock_release(r->locks.start);
    r->locks.start = NULL;
cleanup:
    qzo_listing_free(listing);
    return status;
}

/* Rank 0: the scheduler, brought to where earlier runs have left it. */
static qzo_status restore_schedule(run *r) {
    qzo_status status = QZO_OK;
    qzo_results *results = NULL;
    const char *folder = r->settings->out_folder;
    QZO_TRY(qzo_listing_load(&r->listing, folder));
    QZO_TRY(qzo_results_load(&results, folder));
    QZO_TRY(qzo_schedule_open(&r->schedule, r->listing, folder));
    QZO_TRY(qzo_schedule_restore(r->schedule, results, &r->settings->slice));
    QZO_TRY(qzo_schedule_resume(r->schedule, r->decisions));
    /* By its decisions: where some are lost, journals that have ended do not tell of all. */
    r->report->was_done = r->schedule->ops->done(r->schedule->state);
cleanup:
    qzo_results_free(results);
    return status;
}

static qzo_status store_results(const run *r) {
    qzo_status status = QZO_OK;
    qzo_results *results = NULL;
    QZO_TRY(qzo_results_load(&results, r->settings->out_folder));
    QZO_TRY(qzo_results_store(results, r->settings->out_folder));
cleanup:
    qzo_results_free(results);
    return status;
}

/* Every rank makes the forks of earlier runs, each of which is its parent and a step. */
static qzo_status make_forks(run *r) {
    qzo_status status = QZO_OK, made = QZO_OK;
    qzo_comm *world = r->settings->world;
    int64_t count = is_root(r) ? r->listing->fork_count : 0;
    QZO_TRY(qzo_comm_broadcast(world, &count, sizeof count, 0));
    for (int64_t i = 0; i < count; i++) {
        int64_t fork[2] = {0, 0};
        if (is_root(r)) {
            const qzo_listed_trial *listed = &r->listing->trials[r->grid->trial_count + i];
            fork[0] = listed->parent;
            fork[1] = qzo_schedule_steps(r->schedule, listed->rung);
        }
        QZO_TRY(qzo_comm_broadcast(world, fork, sizeof fork, 0));
        if (made == QZO_OK) made = qzo_forks_add(&r->forks, fork[0], fork[1]);
    }
    status = made;
cleanup:
    return status;
}

static qzo_status start(run *r) {
    qzo_status status = QZO_OK;
    qzo_comm *world = r->settings->world;
    QZO_TRY(qzo_comm_worst_status(world, check_peers(r)));
    QZO_TRY(read_sweep(r));
    QZO_TRY(qzo_comm_worst_status(world, check_transport(r)));
    status = qzo_grid_expand(&r->grid, r->sweep, shared_digest, r);
    QZO_TRY(qzo_comm_worst_status(world, status));
    QZO_TRY(qzo_comm_worst_status(world, qzo_scheduling_make(&r->scheduling, r->sweep, r->grid)));
    r->forks = (qzo_forks){.grid = r->grid, .perturbing = &r->scheduling.perturbing};
    for (int64_t i = 0; i < r->grid->trial_count; i++)
        r->report->trial_count += qzo_slice_has(&r->settings->slice, i);
    if (is_root(r)) {
        if (r->sweep->notes) qzo_log_info("%s: %s", r->settings->sweep_path, r->sweep->notes);
        if (r->grid->duplicate_count > 0)
            qzo_log_warn("%lld combinations repeat an earlier trial and are left out",
                         (long long)r->grid->duplicate_count);
    }
    QZO_TRY(plan_memory(r));
    if (is_root(r)) {
        status = open_folder(r);
        if (status == QZO_OK) status = restore_schedule(r);
    }
    QZO_TRY(qzo_comm_worst_status(world, status));
    QZO_TRY(qzo_comm_broadcast(world, &r->report->was_done, sizeof r->report->was_done, 0));
    QZO_TRY(qzo_comm_worst_status(world, make_forks(r)));
    r->report->trial_count += r->forks.count;
cleanup:
    return status;
}

qzo_status qzo_sweep_run(qzo_run_report *out, const qzo_run_settings *settings) {
    qzo_status status = QZO_OK;
    char path[PATH_BYTES];
    run r = {.settings = settings, .report = out};
    *out = (qzo_run_report){0};
    QZO_TRY(start(&r));
    snprintf(path, sizeof path, "%s/log/rank-%d.log", settings->out_folder, settings->world->rank);
    qzo_log_open(path);
    if (!out->was_done) {
        qzo_dispatch_settings dispatch = {.world = settings->world,
                                          .ranks_per_trial = r.sweep->ranks_per_trial,
                                          .grid = r.grid,
                                          .folder = settings->out_folder,
                                          .slice = &settings->slice,
                                          .backend = settings->backend,
                                          .peers = r.peers,
                                          .transport = settings->transport,
                                          .residency = r.residency,
                                          .schedule = r.schedule,
                                          .forks = &r.forks,
                                          .end_time = settings->end_time,
                                          .decisions = r.decisions,
                                          .started_at = settings->started_at,
                                          .should_park = settings->should_park,
                                          .tick = settings->tick,
                                          .tick_context = settings->tick_context};
        status = qzo_dispatch(&dispatch);
    }
    /* The view is rebuilt however the run ended; where others still write, by `qzo report`. */
    if (is_root(&r) && qzo_slice_is_whole(&settings->slice)) {
        char message[1024];
        snprintf(message, sizeof message, "%.1000s", qzo_error_message());
        qzo_status stored = store_results(&r);
        if (status == QZO_OK)
            status = stored;
        else
            qzo_fail(status, "%s", message);
    }
    status = qzo_comm_worst_status(settings->world, status);
cleanup:
    qzo_schedule_close(r.schedule);
    qzo_listing_free(r.listing);
    qzo_forks_release(&r.forks);
    qzo_scheduling_release(&r.scheduling);
    qzo_decisions_close(r.decisions);
    qzo_slice_unlock(&r.locks);
    qzo_kinds_release(&r.kinds);
    qzo_grid_free(r.grid);
    qzo_contents_release(&r.contents);
    qzo_sweep_spec_free(r.sweep);
    free(r.peers);
    return status;
}
