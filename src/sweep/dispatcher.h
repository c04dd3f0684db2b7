/* The inside of dispatch.h, shared by its parts: dispatch.c (the loop of every rank),
 * dispatch_root.c (what rank 0 of the world decides) and dispatch_use.c (the figures at the end).
 * Nothing else includes it. */
#ifndef QZO_SWEEP_DISPATCHER_H
#define QZO_SWEEP_DISPATCHER_H

#include "base/file_io.h"
#include "sweep/benches.h"
#include "sweep/dispatch.h"

#include <time.h>

typedef enum {
    KIND_WANT = 1,
    KIND_PARK = 2,
    KIND_RUN = 3,
    KIND_STOP = 4,
    KIND_FORK = 5
} message_kind;

enum { NO_TRIAL = -1, SENTENCE_BYTES = 1024 };

static const struct timespec POLL_PAUSE = {.tv_nsec = 200000};

typedef enum { LEADER_RUNNING, LEADER_WAITING, LEADER_STOPPED } leader_state;

/* What rank 0 knows of a group. */
typedef struct leader {
    leader_state state;
    int64_t rung;       /* that its trial runs to */
    int64_t steps_then; /* of the trial when it was sent */
    double sent_at;
} leader;

typedef struct dispatcher {
    const qzo_dispatch_settings *settings;
    qzo_comm *group;
    int64_t group_size;
    int group_index, group_count;
    qzo_benches benches;
    bool park; /* this rank knows that the job is to stop */
    bool park_sent;
    bool is_cut_off;     /* the transport is broken: nobody is heard any more */
    int64_t trial;       /* of this group now */
    uint64_t bytes_sent; /* by this rank in all its trials */
    double wait_seconds; /* in exchanges with the other ranks of its group */
    double idle_seconds; /* without a trial */
    double began_at, stopped_at;
    double progress_at;
    /* rank 0 of the world */
    leader *leaders;         /* (group_count) */
    double step_seconds_max; /* of any trial so far, in earlier starts too */
    bool out_of_time;        /* what is left would end after the job */
    int own_answer;          /* message_kind for group 0; 0: none yet */
    int64_t own_trial, own_until;
    /* Of any rank; sentences are kept, since later ones would replace them. */
    qzo_status worst; /* what stopped the run beside its trials; QZO_OK so far */
    char worst_sentence[SENTENCE_BYTES];
    qzo_status last_status; /* of this rank's last trial */
    char last_sentence[SENTENCE_BYTES];
} dispatcher;

/* What a group is to do, of a message. */
typedef struct work_item {
    int64_t trial, until; /* until: step; 0: to the trial's end; of a fork: parent, step */
} work_item;

static inline bool is_world_root(const dispatcher *d) { return d->settings->world->rank == 0; }
static inline bool leads(const dispatcher *d) { return d->group->rank == 0; }

static inline int leader_rank(const dispatcher *d, int group) {
    return (int)(group * d->group_size);
}

static inline qzo_message message_of(message_kind kind, int64_t trial, int64_t until,
                                     qzo_status status) {
    qzo_message message = {{0}};
    qzo_put_u32(message.bytes, (uint32_t)kind);
    qzo_put_u64(message.bytes + 4, (uint64_t)trial);
    qzo_put_u32(message.bytes + 12, (uint32_t)status);
    qzo_put_u64(message.bytes + 16, (uint64_t)until);
    return message;
}

static inline work_item item_of(const qzo_message *message) {
    return (work_item){(int64_t)qzo_get_u64(message->bytes + 4),
                       (int64_t)qzo_get_u64(message->bytes + 16)};
}

/* Keeps the worst error beside the trials, with its sentence; QZO_OK is none. A rank that has one
 * goes on hearing what it is told, or those who wait for it would wait forever: it asks rank 0 to
 * park, and fails the trial that it is given meanwhile together with its group. */
void qzo_dispatch_note(dispatcher *d, qzo_status status);

/* Rank 0: takes how its own group's trial ended, then what its group is to do next. */
message_kind qzo_dispatch_ask_root(dispatcher *d, int64_t last, qzo_status last_status,
                                   work_item *next);

/* Rank 0: answers everything that waits for it; quick, and never blocks. */
void qzo_dispatch_serve(dispatcher *d);

/* Leader: the other ranks of its group hear what it was told. */
void qzo_dispatch_tell_group(dispatcher *d, message_kind kind, const work_item *next);

/* Collective over the world: rank 0 logs what the ranks sent, waited and held, and appends
 * it to log/ranks.jsonl. */
qzo_status qzo_dispatch_report_use(const dispatcher *d);

#endif
