/* What trial_spec.c and group_settings.c share: texts of settings that are words. */
#ifndef QZO_TRIAL_GROUP_SETTINGS_H
#define QZO_TRIAL_GROUP_SETTINGS_H

#include "trial/trial_spec.h"

enum { QZO_WORDS_BYTES_MAX = 256 };

/* One copy of each text for the life of the process, so that specs may be copied as they are; NULL
 * when out of memory. One thread reads settings. */
const char *qzo_text_intern(const char *text);

/* out: the words of text, joined by '+', in the order of the setting's choice; false where one is
 * unknown, missing or there twice. */
bool qzo_words_order(char out[QZO_WORDS_BYTES_MAX], const qzo_setting *setting, const char *text);

/* out: the words of text, which is shorter than that, sorted and each once: a set, whose order
 * means nothing. */
void qzo_words_sort(char out[QZO_WORDS_BYTES_MAX], const char *text);

/* What stands for the trial's own value is one identity with it, and what is said of a group that
 * does not train is none. */
qzo_status qzo_trial_spec_complete_groups(qzo_trial_spec *spec);

#endif
