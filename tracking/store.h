/*
 * The experiment store: one SQLite file (<storage>/<experiment>/cadre.db) that is an Optuna study as it stands, with
 * what Optuna has no place for in tables of our own (cadre_*). One writing process, which is also the only one to
 * checkpoint the log; readers welcome.
 *
 * Writes gather in memory; tracking_commit() puts them into the file in one transaction. A write call fails only for
 * its arguments, for memory, when what it must know cannot be read, and (CADRE_ENOSPC) when 64 MiB wait because commits
 * keep failing; one that fails leaves nothing behind. Reading sees what is gathered. Ids are row ids (> 0). One thread
 * at a time; a store is never carried over fork(): a child's calls answer CADRE_ESTATE, its close does nothing.
 */
#ifndef TRACKING_STORE_H
#define TRACKING_STORE_H

#include "cadre/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct tracking_store tracking_store;

enum { TRACKING_GROUP_MS = 10 /* a report is committed at the latest so long after it came */ };

/**
 * Open for writing, making file and tables when they are missing, and take the owner's lock (a file beside it that
 * names pid, host, user and start time; kept by an open-file-description lock, so that it goes with the process).
 * CADRE_EBUSY says whose it is; CADRE_ENOTSUP a network file system, naming it; CADRE_EVERSION a store of a newer
 * version; CADRE_ECORRUPT what is no store of ours or fails the quick check (it is left untouched); CADRE_EACCES,
 * CADRE_ENOSPC. The schema may not be made half: either all tables are there or none. Missing directories are made
 * (0700), the files are the owner's alone (0600).
 */
int tracking_open(const char *path, tracking_store **out);
/** Open what is there for reading only, while a writer may be at work. Changes nothing of the store, unless a writer was
 * killed in the middle of a change: that is undone first. CADRE_ENOENT when there is no file or no table in it yet;
 * CADRE_EACCES also when something has to be undone by somebody who may write there. */
int tracking_open_reader(const char *path, tracking_store **out);
/** Commit, fold the log into the file (writer only), release the lock. What cannot be committed is lost, with a line in
 * the log: commit before, to know. Without readers the file then stands alone, without a log beside it. NULL is fine.
 */
void tracking_close(tracking_store *store);

/** End the transaction, if one is open. `durable` waits for the disk (checkpoints, final states). After an error what
 * was gathered is kept and tried again by the next commit, due a second later; CADRE_ENOSPC, CADRE_EIO, CADRE_EBUSY
 * (another program has held its lock for 2 s). `durable` covers the commits before, too. */
int tracking_commit(tracking_store *store, bool durable);
/** Milliseconds until the gathered writes should be committed; 0: now; -1: nothing is gathered. */
int tracking_commit_due_ms(const tracking_store *store);

/* ---- experiments (Optuna: studies) ---- */

typedef enum tracking_direction { TRACKING_MINIMIZE, TRACKING_MAXIMIZE } tracking_direction;

/** Find or make the experiment of that name. `metric` names its objective (study_system_attributes study:metric_names);
 * NULL: not known yet, to be set by tracking_set_objective (the direction then says little). CADRE_EEXIST when it is
 * there with another objective or direction. */
int tracking_experiment(tracking_store *store, const char *name, const char *metric, tracking_direction direction,
                        int64_t *experiment);
/** Running trials' reports so far become Optuna's intermediate values by it. */
int tracking_set_objective(tracking_store *store, int64_t experiment, const char *metric, tracking_direction direction);
/** Attributes of our own about an experiment: key to JSON text (cadre_experiments). */
int tracking_experiment_set(tracking_store *store, int64_t experiment, const char *key, const char *json);

/** The attribute's JSON in a new string; free() it. NULL: there is none. */
int tracking_experiment_get(tracking_store *store, int64_t experiment, const char *key, char **json);

/* ---- trials ---- */

typedef enum tracking_state {
    TRACKING_RUNNING,  /* also paused and to be retried */
    TRACKING_COMPLETE, /* with its objective value, else it is stored as FAIL */
    TRACKING_PRUNED,
    TRACKING_FAIL,
    TRACKING_WAITING,
} tracking_state;

typedef struct tracking_param {
    const char *name;
    const char *distribution_json; /* Optuna's long form; NULL: a constant (params.c says how it is stored) */
    double value;                  /* as Optuna stores it: natural space, or the index of the choice */
    const char *json;              /* the value itself as JSON ("0.1", "\"adam\"") for cadre_params */
} tracking_param;

/** A new trial, RUNNING from now. `number` gets its number in the experiment (from 0). `retry_of`: the trial that it
 * takes up again (Optuna's failed_trial and retry_history are written), 0: none. CADRE_EINVAL for a value outside its
 * distribution, a name that is there twice, what is not JSON: Optuna would refuse the whole study for it. */
int tracking_trial_add(tracking_store *store, int64_t experiment, const tracking_param *params, int count,
                       int64_t retry_of, int64_t *trial, int64_t *number);
/**
 * The trial's final state. For COMPLETE and PRUNED `value` is the objective (NaN or absent makes a COMPLETE trial a
 * FAIL, as Optuna has it; infinities are stored as such). `reason`: one line, "" for none. Finished trials are never
 * written again: CADRE_ESTATE.
 */
int tracking_trial_finish(tracking_store *store, int64_t trial, tracking_state state, bool has_value, double value,
                          const char *reason);
/**
 * Take in a trial that another program (Optuna) has added while nobody had the store: its params come to be among ours, and if it is unfinished it
 * becomes a FAIL for this reason, since from now on only this process writes. `*last_step`: of its intermediate values, 0 for none. Again is fine.
 */
int tracking_adopt(tracking_store *store, int64_t trial, const char *reason, int64_t *last_step);
/** What another program has enqueued (WAITING): the params that it has fixed as a JSON object in a new string, "{}" for none. */
int tracking_enqueued_params(tracking_store *store, int64_t trial, char **json);
/** A WAITING trial begins: RUNNING from now, with these params, whatever it had. Errors as of tracking_trial_add. */
int tracking_trial_begin(tracking_store *store, int64_t trial, const tracking_param *params, int count);
/** Our own finer state beside Optuna's: "starting", "running", "paused", "restarting", ... (cadre_trials). */
int tracking_trial_note(tracking_store *store, int64_t trial, const char *detail);

/* ---- attempts: one start of a worker group ---- */

/** Attempt numbers count from 0 within a trial. `restored_report`: the report it goes on from, 0: from the beginning;
 * metrics of later reports (of the attempt that was lost) are removed, so that none is there twice. */
int tracking_attempt_begin(tracking_store *store, int64_t trial, int attempt, int num_workers, const char *launcher,
                           const char *backend, int64_t restored_report, int64_t restored_checkpoint);
/** The backend that the workers' communicator became, once it is known. */
int tracking_attempt_backend(tracking_store *store, int64_t trial, int attempt, const char *backend);
/** `cause`: "finished", "failed", "killed", "hung", "stopped", ...; rank -1: none in particular; signal 0: none.
 * `detail`: one line. */
int tracking_attempt_end(tracking_store *store, int64_t trial, int attempt, const char *cause, int rank,
                         const char *host, int exit_code, int signal, const char *detail);

/* ---- metrics ---- */

typedef struct tracking_metric {
    const char *name;
    double value; /* NaN and infinities are stored as such */
} tracking_metric;

/**
 * One report: its number (from 1, counted on over attempts), its step (the number unless the program gave one), its
 * metrics. The objective's value also becomes Optuna's intermediate value at `step`. A report that is there already is
 * replaced.
 */
int tracking_report(tracking_store *store, int64_t trial, int attempt, int64_t report, int64_t step,
                    const tracking_metric *metrics, int count);

/* ---- checkpoints ---- */

typedef struct tracking_checkpoint {
    int64_t id;
    int64_t trial;
    int attempt;
    int64_t report, step; /* of the last report before it */
    char path[1024];      /* relative to the store's directory */
    char hash[33];        /* XXH3-128, hexadecimal */
    int64_t nbytes;
    double score; /* NaN: none */
    bool has_score;
} tracking_checkpoint;

/** Record a checkpoint that is on disk under its final name (`id` and `trial` of the struct are outputs). */
int tracking_checkpoint_add(tracking_store *store, int64_t trial, tracking_checkpoint *checkpoint);
int tracking_checkpoint_remove(tracking_store *store, int64_t id);
/** The trial's checkpoints, oldest first, into a new array; free() it. */
int tracking_checkpoints(tracking_store *store, int64_t trial, tracking_checkpoint **list, int *count);

/* ---- events: what happened, in one order ---- */

/** Append an event; `sequence` (may be NULL) gets its number in the experiment, from 1, without gaps. trial 0: the
 * experiment's own. */
int tracking_event(tracking_store *store, int64_t experiment, int64_t trial, const char *kind, const char *json,
                   int64_t *sequence);

/* ---- reading ---- */

typedef struct tracking_trial {
    int64_t id, experiment, number;
    tracking_state state;
    bool has_value;
    double value;
    int attempts;
    int64_t last_report;
    int64_t first_try; /* a retry: number of the failed trial with which its line of retries began; -1: it is none */
    char detail[64];
    char reason[512];
    char started[32], ended[32]; /* UTC text, "" for not yet */
} tracking_trial;

int tracking_find_experiment(tracking_store *store, const char *name, int64_t *experiment); /* CADRE_ENOENT */
/** The experiment's newest trial; CADRE_ENOENT when it has none. */
int tracking_last_trial(tracking_store *store, int64_t experiment, tracking_trial *trial);
int tracking_get_trial(tracking_store *store, int64_t id, tracking_trial *trial);
/** Each row in turn; a callback's answer other than 0 ends the walk and is returned. */
int tracking_each_trial(tracking_store *store, int64_t experiment, int (*row)(const tracking_trial *, void *),
                        void *user);
int tracking_each_metric(tracking_store *store, int64_t trial,
                         int (*row)(int64_t report, int64_t step, const char *name, double value, void *), void *user);

#endif
