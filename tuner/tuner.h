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
    int64_t heard; /* the last report that the core knows of */
    double begun;  /* of this attempt, base_now() */
    double ran_s;  /* in attempts before */
    bool stopping; /* it was told to stop, pause or end */
    char reason[512];
} tuner_trial;

struct tuner {
    const cadre_tuner *options;
    cadre_space *space;
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
    int running;
    int64_t resumed, to_resume; /* trials of an earlier life that are looked through and that there are */
    double begun;          /* base_now() */
    double spent_s;        /* of the experiment in earlier lives */
    double virtual_s;      /* the clock of a simulation */
    bool interrupted;
    int status;            /* the first error that ends it all */
    char message[600];
    bool live;             /* the screen is a terminal */
    double drawn;          /* base_now() of the last table */
    int table_lines;
};

/* ---- tuner.c ---- */
double tuner_elapsed(const tuner *tuner);
/** Keep the first error; new trials are not begun any more. */
void tuner_fail(tuner *tuner, int status);

/* ---- loop.c, sim.c: run all there is to run ---- */
int tuner_loop(tuner *tuner, zygote *zygote); /* takes the zygote over; fd -1: none */
int tuner_simulate(tuner *tuner);

/* ---- trial.c ---- */
/** The trial's record in memory, made when it is not there. NULL: no memory, or a computed value failed. */
tuner_trial *trial_get(tuner *tuner, int64_t number);
/** A new trial: its row in the store. */
int trial_add(tuner_trial *trial);
/** It is over: final state in store and core, event. */
int trial_end(tuner_trial *trial, cadre_trial_end end, const char *reason);
void trial_free(tuner_trial *trial);
/** Forget a trial that is over: ten thousand of them should cost no memory but the core's. */
void trial_forget(tuner *tuner, int64_t number);
/** Its id in the store. */
int64_t trial_row(const tuner_trial *trial);
/** Take the metric out of report number `report`; false when it is not in it. */
bool trial_report(tuner_trial *trial, int64_t report, const cadre_metric *metrics, int count, cadre_decision *decision);

/* ---- replay.c ---- */
int event_ask(tuner *tuner, int64_t trial);
int event_resume(tuner *tuner, int64_t trial);
int event_report(tuner *tuner, int64_t trial, double time, double value, double trial_s, double experiment_s);
int event_pause(tuner *tuner, int64_t trial);
int event_end(tuner *tuner, int64_t trial, cadre_trial_end end);
/** Bring the core to where the store's events leave it. CADRE_EMISMATCH when it decides otherwise than it did. */
int tuner_replay(tuner *tuner);

/* ---- table.c ---- */
void table_trial_ended(tuner *tuner, const tuner_trial *trial, cadre_trial_end end);
/** Draw the live table, at most twice a second unless `now`. */
void table_draw(tuner *tuner, bool now);
void table_clear(tuner *tuner);
/** Ctrl-C has been heard. */
void table_interrupted(tuner *tuner);
void table_summary(tuner *tuner);

#endif
