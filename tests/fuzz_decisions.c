/* Any bytes as the text of a GRID frame: an error with a sentence, or a list that can be read
 * through. */
#include "sweep/decisions.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes);

static volatile size_t sink; /* keeps the reads that the sanitizer checks */

static void walk(const qzo_listing *listing) {
    size_t sum = strlen(listing->name);
    for (int64_t k = 0; k < listing->swept_count; k++) sum += strlen(listing->swept_keys[k]);
    for (int64_t i = 0; i < listing->trial_count; i++) {
        const qzo_listed_trial *trial = &listing->trials[i];
        sum += strlen(trial->model_path) + strlen(trial->task_path);
        for (int64_t k = 0; k < listing->swept_count; k++) sum += strlen(trial->values[k]);
    }
    sink = sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes) {
    qzo_listing *listing = NULL;
    if (qzo_listing_parse(&listing, (const char *)bytes, size_bytes, "fuzz") == QZO_OK) {
        walk(listing);
        if (!qzo_listing_equal(listing, listing)) abort();
    } else if (listing != NULL || qzo_error_message()[0] == '\0') {
        abort();
    }
    qzo_listing_free(listing);
    return 0;
}
