/* Population based training (Jaderberg et al. 2017) with truncation selection. The trials of the
 * table are the members of a population; at every rung but the last the worst of them (a quantile,
 * and all that diverged or failed) give way each to a fork of one that is drawn among the best:
 * the other's journal up to here, with settings that are perturbed (sweep/forks.h). A rung is
 * decided once all members have come there, so nothing depends on who comes first. */
#include "sweep/draws.h"
#include "sweep/rung_table.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

enum { FORKS_MAX = 10000000 };

typedef enum { WAITING, RUNNING, REACHED, TO_STOP, TO_FORK, LOST, FINISHED } member_state;

/* One place in the population, and the trial that has it now. */
typedef struct member {
    member_state state;
    bool gives_way; /* decided: it is stopped, if it has not ended, and replaced */
    int64_t trial;
    int64_t parent; /* trial that its next one goes on from */
    double score;   /* at the rung; NAN ranks last */
} member;

typedef struct population {
    const qzo_scheduler_settings *settings;
    int64_t rung;        /* that the members run to */
    int64_t coming;      /* how many have not come there */
    int64_t ended_count; /* members that run no more */
    int64_t due_place;   /* before it in the order nobody is to be stopped or replaced */
    int64_t run_place;   /* before it nobody waits; runs begin once due_place is at the end */
    int64_t trial_count; /* forks included */
    int64_t *member_of;  /* (all forks that may come): of each trial */
    member *ranked;      /* (trial_count): while a rung is decided */
    member members[];
} population;

static int64_t *make_member_of(const qzo_scheduler_settings *s) {
    int64_t forks = s->trial_count * (s->rung_count - 1);
    int64_t *member_of = calloc((size_t)(s->trial_count + forks) + 1, sizeof *member_of);
    for (int64_t i = 0; member_of && i < s->trial_count; i++) member_of[i] = i;
    return member_of;
}

static void pbt_destroy(void *state) {
    population *p = state;
    if (!p) return;
    free(p->member_of);
    free(p->ranked);
    free(p);
}

static qzo_status pbt_create(void **state, const qzo_scheduler_settings *settings) {
    int64_t count = settings->trial_count;
    *state = NULL;
    if (count > 0 && settings->rung_count > FORKS_MAX / count)
        return qzo_fail(QZO_ERR_LIMIT,
                        "a population of %" PRId64 " with %" PRId64
                        " rungs may make more than %d forks: raise interval",
                        count, settings->rung_count, FORKS_MAX);
    population *p = calloc(1, sizeof *p + (size_t)count * sizeof p->members[0]);
    if (p) {
        p->member_of = make_member_of(settings);
        p->ranked = calloc((size_t)count + 1, sizeof *p->ranked);
    }
    if (!p || !p->member_of || !p->ranked) {
        pbt_destroy(p);
        return qzo_fail(QZO_ERR_MEMORY, "no memory for a population of %" PRId64, count);
    }
    p->settings = settings;
    p->coming = p->trial_count = count;
    for (int64_t i = 0; i < count; i++) p->members[i] = (member){.trial = i, .score = (double)NAN};
    *state = p;
    return QZO_OK;
}

static bool is_last_rung(const population *p) { return p->rung == p->settings->rung_count - 1; }

static member *member_at(population *p, int64_t place) {
    return &p->members[p->settings->order ? p->settings->order[place] : place];
}

/* What has ended comes last: of those without a score it alone must give way. */
static int by_rank(const void *a, const void *b) {
    const member *x = a, *y = b;
    if ((x->state == LOST) != (y->state == LOST)) return x->state == LOST ? 1 : -1;
    return qzo_rung_better(x->score, x->trial, y->score, y->trial) ? -1 : 1;
}

/* How many of the ranked members are replaced: the last quantile and what has ended, but none where
 * nothing can take their place. */
static int64_t count_replaced(const population *p) {
    int64_t count = p->settings->trial_count, lost = 0, scored = 0;
    int64_t wanted = (int64_t)(p->settings->quantile * (double)count);
    for (int64_t i = 0; i < count; i++) {
        lost += p->ranked[i].state == LOST;
        scored += !isnan(p->ranked[i].score);
    }
    if (wanted < 1) wanted = 1;
    if (lost > wanted) wanted = lost;
    return wanted < count && scored > 0 ? wanted : scored > 0 ? lost : 0;
}

/* All have come to the rung: the best give their place in it to those behind. */
static void decide_rung(population *p) {
    const qzo_scheduler_settings *s = p->settings;
    int64_t count = s->trial_count, best = 0, fork = p->trial_count;
    for (int64_t i = 0; i < count; i++) p->ranked[i] = p->members[i];
    qsort(p->ranked, (size_t)count, sizeof *p->ranked, by_rank);
    int64_t replaced = count_replaced(p), kept = count - replaced;
    int64_t best_max = (int64_t)(s->quantile * (double)count);
    if (best_max < 1) best_max = 1;
    while (best < best_max && best < kept && !isnan(p->ranked[best].score)) best++;
    for (int64_t i = kept; i < count && best > 0; i++)
        p->members[p->member_of[p->ranked[i].trial]].gives_way = true;
    p->ended_count = 0;
    p->coming = 0;
    p->due_place = p->run_place = 0;
    p->rung++;
    for (int64_t place = 0; place < count; place++) { /* forks are numbered in this order */
        member *m = member_at(p, place);
        if (m->gives_way) {
            m->parent = p->ranked[qzo_draw_index(s->seed, "pbt.parent", fork++, best)].trial;
            m->state = m->state == LOST ? TO_FORK : TO_STOP;
        } else if (m->state == REACHED) {
            m->state = WAITING;
        }
        p->coming += m->state != LOST;
        p->ended_count += m->state == LOST;
    }
}

/* The new trial in a member's place. */
static void fork_member(population *p, member *m, qzo_action *out) {
    *out = (qzo_action){QZO_ACTION_FORK, p->trial_count, p->rung - 1, m->parent};
    p->member_of[p->trial_count] = m - p->members;
    m->trial = p->trial_count++;
    m->state = WAITING;
    m->gives_way = false;
}

static bool pbt_next(void *state, qzo_action *out) {
    population *p = state;
    int64_t count = p->settings->trial_count;
    for (; p->due_place < count; p->due_place++) {
        member *m = member_at(p, p->due_place);
        if (m->state == TO_STOP) {
            *out = (qzo_action){QZO_ACTION_STOP, m->trial, p->rung - 1, 0};
            m->state = TO_FORK;
            return true;
        }
        if (m->state != TO_FORK) continue;
        fork_member(p, m, out);
        return true;
    }
    for (; p->run_place < count; p->run_place++) {
        member *m = member_at(p, p->run_place);
        if (m->state != WAITING) continue;
        *out = (qzo_action){QZO_ACTION_RUN, m->trial, p->rung, 0};
        m->state = RUNNING;
        return true;
    }
    return false;
}

static void pbt_report(void *state, int64_t trial, qzo_report_kind kind, double score) {
    population *p = state;
    member *m = &p->members[p->member_of[trial]];
    if (kind == QZO_REPORT_PARKED) {
        m->state = WAITING;
        p->run_place = 0; /* parking is rare: its place is looked for again */
        return;
    }
    m->score = score;
    m->state = kind == QZO_REPORT_RUNG ? REACHED : is_last_rung(p) ? FINISHED : LOST;
    if (is_last_rung(p)) p->ended_count++;
    if (--p->coming == 0 && !is_last_rung(p)) decide_rung(p);
}

static bool pbt_done(const void *state) {
    const population *p = state;
    return p->ended_count == p->settings->trial_count;
}

const qzo_scheduler_ops qzo_sched_pbt = {
    .name = "pbt",
    .help = "population based training: at each rung the worst go on from the best",
    .has_rungs = true,
    .forks = true,
    .create = pbt_create,
    .destroy = pbt_destroy,
    .next = pbt_next,
    .report = pbt_report,
    .done = pbt_done,
};
