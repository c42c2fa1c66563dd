/* What the trainer's tests share: the job in a process of its own, under a watchdog, and looks at what it left. */
#ifndef TESTS_TRAINER_SUPPORT_H
#define TESTS_TRAINER_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>

/** A fresh directory for this test; removed by scratch_remove, which fails the test when processes of its jobs are left. */
int scratch_make(void **state);
int scratch_remove(void **state);
/** "<scratch>/..." in a static buffer of a few turns. */
const char *in_scratch(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

typedef struct job {
    pid_t pid;
    char name[32]; /* of the run, and of its files */
    int wait_status;
} job;

/** Start the job as run `name` with these words (separated by spaces); storage, out and final are added. A first word "attached=N" has mpirun start
 *  it as N ranks. */
job job_start(const char *name, const char *words);
/** Is that possible in this build? */
bool can_attach(void);
/** Wait for its end, at most `seconds`; then it is aborted and the test fails. */
void job_wait(job *job, int seconds);
/** Both; the exit code, or minus the signal. */
int job_run(const char *name, const char *words);
/** Both; fails the test unless fit answered this status ("OK"); descriptors must not be leaked. */
void job_expect(const char *name, const char *words, const char *status);

/** A line of fit's answer: job_answer("first", "message"). "" when there is none. */
const char *job_answer(const char *name, const char *key);
/** What the job printed, as one text. */
const char *job_output(const char *name);
/** A worker's log of a trial. */
const char *job_log(const char *name, int trial, int rank);

/** First column of the first row of a query to the run's store; -1 and "" when there is no row. */
int64_t store_int(const char *name, const char *sql);
const char *store_text(const char *name, const char *sql);
/** The checkpoints on record: report, path and score of each. */
const char *store_checkpoints(const char *name);
/** All reports and metrics of a trial (its number), bit by bit, as text. The caller frees it. */
char *store_reports(const char *name, int trial);

/** The final parameters of `world` ranks are the same bits in both runs. */
void assert_same_final(const char *one, const char *other, int world);
bool file_exists(const char *path);

/** Fails the test unless the run is in order: reports 1..n of every trial once and the same in result.json, checkpoint directories just those
 *  recorded, no lock, log or temporary file, and the store whole. */
void assert_run_clean(const char *name);

/** Run the job with words that keep one checkpoint, and pin the first as soon as it is there. Fails the test unless that and the last one stay. */
void run_pinned(const char *name, const char *words);

/** A word for the job, "marker=FILE": of all the processes that come by the fault, the first one strikes. The file is gone then. */
const char *new_marker(void);
/** Fails the test unless run `name`, which was disturbed, has one complete trial with the bits and the reports of run `undisturbed`, and is clean. */
void assert_like(const char *name, const char *undisturbed, int world);
/** Did a killed run come so far that there is something to resume? */
bool has_trial(const char *name);

/** Wait until `path` has at least `lines` lines. */
void wait_for_lines(const char *path, int lines);

double seconds_now(void);

#endif
