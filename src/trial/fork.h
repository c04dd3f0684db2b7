/* Forks: a trial that goes on from another's journal after some step, with settings of its own.
 * Its journal is the other's up to that step's evaluation, byte for byte (kilobytes: no value is
 * copied), then a CHANGE frame whose text is QZO_CHANGE_SETTINGS and its canonical settings. Those
 * name the other trial and the step, so that the identity, their digest, has all that led there;
 * a program that knows no forks finds another trial's identity in the header and leaves it alone.
 */
#ifndef QZO_TRIAL_FORK_H
#define QZO_TRIAL_FORK_H

#include "trial/journal.h"
#include "trial/trial_spec.h"

#define QZO_CHANGE_SETTINGS "settings\n"

/* The canonical settings in a CHANGE frame's text; false where it tells an arithmetic. */
bool qzo_change_has_settings(const char **settings, size_t *settings_bytes, const char *text,
                             size_t text_bytes);

/* The settings that hold at the journal's end (fresh, the caller frees it; NULL where it has no
 * header) and the identity of its trial. QZO_ERR_FORMAT where a fork does not follow from what
 * stands before it. */
qzo_status qzo_journal_settings(char **settings, qzo_digest *identity,
                                const qzo_journal_file *file);

/* QZO_ERR_FORMAT where the journal has a header and is not of this trial: under a wrong name it
 * says nothing of the one whose name it has. */
qzo_status qzo_journal_check_identity(const qzo_journal_file *file, const qzo_digest *identity);

/* How many bytes of the journal a fork after this step takes over: up to and with the step's dev
 * evaluation. *checksum: of their last frame. QZO_ERR_FORMAT where it has none. */
qzo_status qzo_fork_prefix(size_t *prefix_bytes, uint64_t *checksum, const qzo_journal_file *file,
                           int64_t step);

/* Writes the journal of the fork `spec` of the trial in `parent`, which appears whole or not at
 * all, unless there is one. */
qzo_status qzo_fork_write(const char *path, const qzo_journal_file *parent,
                          const qzo_trial_spec *spec);

/* QZO_ERR_DESYNC where the fork's journal does not begin as the parent's. */
qzo_status qzo_fork_check(const qzo_journal_file *fork, const qzo_journal_file *parent,
                          int64_t step);

#endif
