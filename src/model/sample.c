#include "model/sample.h"

#include "base/math64.h"
#include "base/philox.h"

#include <math.h>
#include <stdbool.h>

static int32_t most_likely(const float *logits, int64_t vocab) {
    int32_t best = 0;
    for (int64_t i = 1; i < vocab; i++)
        if (logits[i] > logits[best]) best = (int32_t)i;
    return best;
}

/* In [0, 1), 53 bits. */
static double uniform(const qzo_sampling *sampling, uint64_t sequence, uint32_t position) {
    qzo_philox_block block = qzo_philox(sampling->seed, sequence, position, QZO_PURPOSE_TOKEN);
    uint64_t bits = (uint64_t)block.word[0] << 32 | block.word[1];
    return (double)(bits >> 11) * 0x1p-53;
}

/* --- a heap of candidates, the likeliest on top --- */

static bool is_likelier(const qzo_candidate *a, const qzo_candidate *b) {
    return a->logit > b->logit || (a->logit == b->logit && a->id < b->id);
}

static void sift_down(qzo_candidate *heap, int64_t count, int64_t at) {
    for (;;) {
        int64_t likeliest = at, left = 2 * at + 1, right = left + 1;
        if (left < count && is_likelier(&heap[left], &heap[likeliest])) likeliest = left;
        if (right < count && is_likelier(&heap[right], &heap[likeliest])) likeliest = right;
        if (likeliest == at) return;
        qzo_candidate moved = heap[at];
        heap[at] = heap[likeliest];
        heap[likeliest] = moved;
        at = likeliest;
    }
}

/* A draw in progress. What leaves the heap gathers at its end: the likeliest last. */
typedef struct draw {
    qzo_candidate *candidates; /* (vocab) */
    int64_t vocab, taken;
    double largest, temperature;
} draw;

static double weight(const draw *d, float logit) {
    return qzo_exp(((double)logit - d->largest) / d->temperature);
}

static double weight_of_taken(const draw *d, int64_t index) {
    return weight(d, d->candidates[d->vocab - 1 - index].logit);
}

static void take_likeliest(draw *d) {
    int64_t last = d->vocab - 1 - d->taken++;
    qzo_candidate top = d->candidates[0];
    d->candidates[0] = d->candidates[last];
    d->candidates[last] = top;
    sift_down(d->candidates, last, 0);
}

static int32_t draw_of_likeliest(const float *logits, draw *d, const qzo_sampling *sampling,
                                 double u) {
    bool some = sampling->top_k > 0 && sampling->top_k < d->vocab;
    int64_t limit = some ? sampling->top_k : d->vocab, kept = 0;
    double total = 0.0, sum = 0.0;
    for (int64_t i = 0; i < d->vocab; i++)
        d->candidates[i] = (qzo_candidate){logits[i], (int32_t)i};
    for (int64_t i = d->vocab / 2; i-- > 0;) sift_down(d->candidates, d->vocab, i);
    for (int64_t i = 0; some && i < limit; i++) {
        take_likeliest(d);
        total += weight_of_taken(d, i);
    }
    for (int64_t i = 0; !some && i < d->vocab; i++) total += weight(d, logits[i]);
    double wanted = sampling->top_p < 1.0 ? sampling->top_p * total : (double)INFINITY;
    for (; kept < limit && sum < wanted; kept++) {
        if (kept == d->taken) take_likeliest(d);
        sum += weight_of_taken(d, kept);
    }
    double passed = 0.0;
    int64_t chosen = 0;
    for (; chosen < kept - 1; chosen++) {
        passed += weight_of_taken(d, chosen);
        if (passed > u * sum) break;
    }
    return d->candidates[d->vocab - 1 - chosen].id;
}

int32_t qzo_sample(const float *logits, int64_t vocab, const qzo_sampling *sampling,
                   uint64_t sequence, uint32_t position, qzo_candidate *scratch) {
    int32_t best = most_likely(logits, vocab);
    if (sampling->temperature <= 0.0) return best;
    draw d = {.candidates = scratch,
              .vocab = vocab,
              .largest = (double)logits[best],
              .temperature = sampling->temperature};
    double u = uniform(sampling, sequence, position), total = 0.0, passed = 0.0;
    if (sampling->top_k > 0 || sampling->top_p < 1.0)
        return draw_of_likeliest(logits, &d, sampling, u);
    for (int64_t i = 0; i < vocab; i++) total += weight(&d, logits[i]);
    for (int64_t i = 0; i < vocab - 1; i++) {
        passed += weight(&d, logits[i]);
        if (passed > u * total) return (int32_t)i;
    }
    return (int32_t)(vocab - 1);
}
