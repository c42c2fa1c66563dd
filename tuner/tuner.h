/*
 * The tuner's loop: turns what the core wants into trials, and what trials do into events for core and store. Files: tuner.c begins and ends an
 * experiment, loop.c runs it on processes, sim.c on a virtual clock, trial.c is one trial's record, replay.c the events both ways, table.c the screen.
 */
#ifndef TUNER_TUNER_H
#define TUNER_TUNER_H

#include "cadre/tuner.h"
#include "core.h"
#include "slots.h"
#include "tracking/store.h"
#include "trainer/launch/zygote.h"
#include "trainer/run.h"

typedef struct tuner tuner;

typedef struct tuner_trial {
    tuner *tuner;
    int64_t number;
    cadre_config *config;
    cadre_trainer trainer;  /* the experiment's, with this config */
    trainer_run run;
    bool run_open;
    struct trainer_group *group; /* NULL: it does not run now */
    tuner_share share;
    int attempts, failures;
    int place;     /* among those that run */
    double begun;  /* of this attempt, base_now() */
    double ran_s;  /* in attempts before */
    bool stopping; /* it was told to stop, pause or end */
    char reason[512];
} tuner_trial;

struct tuner {
    const cadre_tuner *options;
    cadre_search search;   /* of the options, or the one that the experiment was begun with */
    cadre_space *space;
    char **distributions;  /* by dimension, as the store has them; made when they are wanted */
    tuner_core *core;
    tracking_store *store;
    int64_t experiment;
    char *directory;
    bool maximize, sync;   /* sync: workers wait for the decision on each report */
    bool log_reports;      /* reports are events: scheduler, searcher or stoppers look at them */
    bool wants_durable;    /* the next commit should wait for the disk */
    tuner_trial **trials;  /* by number; NULL: nothing to do with it now */
    int64_t *rows;         /* by number: a trial's id in the store, 0: none yet */
    int64_t capacity;      /* of both */
    tuner_slots slots;
    double cores_each;     /* that one trial takes */
    tuner_trial **active;  /* those that run now, as groups */
    int running, active_capacity;
    int64_t resumed, to_resume; /* trials of an earlier life that are looked through and that there are */
    double begun;          /* base_now() */
    double spent_s;        /* of the experiment in earlier lives */
    double virtual_s;      /* the clock of a simulation */
    bool interrupted;
    bool to_rest;          /* the experiment is open: its end is to be noted */
    int status;            /* the first error that ends it all */
    char message[600];
    bool live;             /* the screen is a terminal */
    double drawn;          /* base_now() of the last table */
    int table_lines;
};

/* ---- tuner.c ---- */
double tuner_elapsed(const tuner *tuner);
/** Keep the first error; new trials are not begun any more, and those that run are asked to leave, to be resumed. */
void tuner_fail(tuner *tuner, int status);
/** Nothing runs and the core wants nothing now: give up a paused trial, so that others may come. False, or an error: there is none. */
int tuner_unblock(tuner *tuner, bool *freed);

/* ---- loop.c, sim.c: run all there is to run ---- */
int tuner_loop(tuner *tuner, zygote *zygote); /* takes the zygote over; fd -1: none */
int tuner_simulate(tuner *tuner);

/* ---- trial.c ---- */
/** The trial's record in memory, made when it is not there. */
int trial_get(tuner *tuner, int64_t number, tuner_trial **out);
/** Which row of the store the trial has. */
int trial_know_row(tuner *tuner, int64_t number, int64_t row);
/** A new trial: its row in the store. */
int trial_add(tuner_trial *trial);
/** A trial that another program has enqueued: its row begins, with its params. */
int trial_begin_row(tuner_trial *trial);
/** A retry's row gets the reports, up to `until`, of the trial that it tries again; and its checkpoints, with the reports up to the last of them. */
int trial_inherit_reports(tuner_trial *trial, int64_t until);
int trial_inherit_checkpoints(tuner_trial *trial);
/** The core learns what the store has of the trial's reports: they were not all events, or another trial's. */
int trial_recall(tuner_trial *trial);
/** It is over: final state in store and core, event. COMPLETE without a value is a failure. */
int trial_end(tuner_trial *trial, cadre_trial_end end, const char *reason);
/** It has failed for good; with fail_fast the experiment has, too. */
int trial_fail(tuner_trial *trial, const char *reason);
/** It does not run any more, and was told to pause or to end: so it does. */
int trial_obey(tuner_trial *trial);
/** It does not run any more because the experiment is over: what it has is its result. */
int trial_cut_short(tuner_trial *trial);
void trial_free(tuner_trial *trial);
/** Forget a trial that is over: ten thousand of them should cost no memory but the core's. */
void trial_forget(tuner *tuner, int64_t number);
/** Its id in the store. */
int64_t trial_row(const tuner_trial *trial);
/** Report number `report` goes to the core, whose answer is the trial's `decision` there. */
int trial_report(tuner_trial *trial, int64_t report, const cadre_metric *metrics, int count);

/* ---- replay.c ---- */
int event_begin(tuner *tuner, core_job job, int64_t trial); /* what core_next wanted */
int event_report(tuner *tuner, int64_t trial, int64_t report, double time, double value, double trial_s, double experiment_s);
int event_pause(tuner *tuner, int64_t trial);
int event_end(tuner *tuner, int64_t trial, cadre_trial_end end);
int event_retry_failed(tuner *tuner, bool from_beginning);
/** A trial of another program; `fits`: its point is one of the space. */
int event_other(tuner *tuner, int64_t trial, cadre_trial_end end, bool fits);
/** A trial that another program has enqueued: it is to be run. */
int event_enqueued(tuner *tuner, int64_t trial);
/** This life of the experiment ends: how long it has run. */
int event_rest(tuner *tuner);
/** Bring the core to where the store's events leave it. CADRE_EMISMATCH when it decides otherwise than it did. */
int tuner_replay(tuner *tuner);

/* ---- others.c ---- */
/** Trials in the store that no event knows of: another program has added them. Those that it has enqueued are to be run. */
int tuner_take_in_others(tuner *tuner);

/* ---- table.c ---- */
void table_trial_ended(tuner *tuner, const tuner_trial *trial, cadre_trial_end end);
/** Draw the live table, at most twice a second unless `now`. */
void table_draw(tuner *tuner, bool now);
void table_clear(tuner *tuner);
/** Ctrl-C has been heard. */
void table_interrupted(tuner *tuner);
void table_summary(tuner *tuner);

#endif
