/* What the store's files share; nobody outside the room includes it. */
#ifndef TRACKING_INTERNAL_H
#define TRACKING_INTERNAL_H

#include "base/buffer.h"
#include "tracking/sql.h"
#include "tracking/store.h"

#include <sys/types.h>

/* What is known of an experiment and of a trial without asking the file again: only this process writes. */
typedef struct tracking_known_experiment {
    int64_t id;
    int64_t objective; /* name id of the objective's metric, 0: not known yet */
    int64_t trials;    /* how many there are: the next one's number */
    int64_t events;    /* the last one's sequence number */
    tracking_direction direction;
} tracking_known_experiment;

typedef struct tracking_known_trial {
    int64_t id, experiment, number;
    int64_t last_report;
    bool finished;
} tracking_known_trial;

typedef struct tracking_known_name {
    int64_t id;
    char *name;
} tracking_known_name;

enum { TRACKING_BUSY_MS = 2000 /* how long a statement waits for another process's lock */ };

struct tracking_store {
    sqlite3 *db;
    char *path;  /* as given, for messages */
    char *place; /* absolute, links resolved: what is opened and locked */
    bool writer;
    pid_t pid; /* a child of fork may not touch what its parent opened */
    int lock;
    sqlite3_stmt *statements[TRACKING_SQL_COUNT];

    /* commit.c */
    base_buffer journal;    /* the writes gathered since the last commit */
    size_t applied;         /* bytes of it that the open transaction holds already */
    int64_t gathered_ns;    /* when the first of them came */
    int64_t retry_ns;       /* not before, after a commit that failed; 0: none did */
    bool full_sync;         /* what PRAGMA synchronous is set to */
    bool half_done;         /* the open transaction is of no use and could not be rolled back yet */
    bool unsynced;          /* the last commit did not wait for the disk */
    int log_pages;          /* pages in the log after the last commit */
    int log_next;           /* pages at which to fold it next */
    int64_t log_patient_ns; /* when readers were last waited for to start the log again */

    /* known.c */
    int64_t last_experiment_id, last_trial_id, last_checkpoint_id, last_name_id;
    tracking_known_experiment *experiments;
    int experiment_count;
    tracking_known_trial *trials; /* by id */
    size_t trial_count;
    tracking_known_name *names; /* by name */
    size_t name_count;
};

/* ---- schema.c ---- */

/** Writes the version that is there already: a transaction that changes nothing. */
#define TRACKING_SAME_VERSION "PRAGMA user_version = 1"

/** Make the tables in an empty file. */
int tracking_schema_make(tracking_store *store);
/** Make the tables in a new file, or check that they are ours and of this version. */
int tracking_schema_ready(tracking_store *store);

/* ---- recover.c ---- */

/** Make the store's file, whole, if there is none. Its owner alone. */
int tracking_make_file(tracking_store *store, const char *directory);
/** Did a reader fail because something has to be undone first? */
bool tracking_needs_recovery(const tracking_store *store);
/** Undo it, if this process may; then the file is to be opened again. CADRE_EACCES says what to do. */
int tracking_recover(tracking_store *store);

/* ---- commit.c: the journal of the group ---- */

/** Where the journal stands, to go back to when a call fails half way. */
size_t tracking_journal_mark(const tracking_store *store);
void tracking_journal_back(tracking_store *store, size_t mark);
/** Gather a write. Only memory can fail here; the file is written by the commit (or before, when something is read). */
int tracking_put(tracking_store *store, tracking_sql sql, const tracking_arg *args, int count);
/** Bring what is gathered into the open transaction, so that reading sees it. */
int tracking_apply(tracking_store *store);
/** Fold the whole log into the file, as far as readers allow. */
void tracking_fold_log(tracking_store *store);
/** CADRE_ESTATE for a reader and for a child of fork. */
int tracking_check_writer(tracking_store *store);

/* ---- known.c ---- */

int tracking_known_open(tracking_store *store);
void tracking_known_free(tracking_store *store);
/** CADRE_ENOENT. The pointer holds until the next experiment (trial) comes to be known. */
int tracking_know_experiment(tracking_store *store, int64_t id, tracking_known_experiment **out);
int tracking_know_trial(tracking_store *store, int64_t id, tracking_known_trial **out);
int tracking_remember_experiment(tracking_store *store, const tracking_known_experiment *experiment);
int tracking_remember_trial(tracking_store *store, const tracking_known_trial *trial);
/** The trial, and CADRE_ESTATE when it is finished. */
int tracking_know_open_trial(tracking_store *store, int64_t id, tracking_known_trial **out);
/** The metric name's id; a new one is gathered. CADRE_EINVAL for "" and what is not UTF-8. */
int tracking_know_name(tracking_store *store, const char *name, int64_t *id);

/* ---- text.c ---- */

bool tracking_utf8_ok(const char *text);
/** A copy without what is not UTF-8 and without line ends ("?" and " " instead); free() it. */
char *tracking_one_line(const char *text);
/** A name: not empty, UTF-8, at most 512 bytes. `what` is for the message. */
int tracking_check_name(const tracking_store *store, const char *name, const char *what);
/** JSON text of any kind of value. */
int tracking_check_json(const tracking_store *store, const char *json, const char *what);

/* ---- params.c ---- */

/** Gather a trial's params. */
int tracking_put_params(tracking_store *store, int64_t trial, const tracking_param *params, int count);

/* ---- metrics.c ---- */

/** Gather the removal of the trial's reports `first` to `last` with all that came of them. `objective`: a name's id, 0:
 * none. */
int tracking_put_reports_gone(tracking_store *store, int64_t trial, int64_t first, int64_t last, int64_t objective);

/* ---- experiments.c ---- */

const char *tracking_direction_name(tracking_direction direction); /* "minimize" */

/* ---- read.c ---- */

void tracking_row_trial(sqlite3_stmt *statement, tracking_trial *trial);
void tracking_row_checkpoint(sqlite3_stmt *statement, tracking_checkpoint *checkpoint);

#endif
