/* Sweeps that are killed and resumed: what survive.c, survive_job.c and survive_store.c share. */
#ifndef TESTS_TUNER_SURVIVE_H
#define TESTS_TUNER_SURVIVE_H

#include <stdbool.h>

typedef struct survive_kind {
    const char *name;
    bool command;   /* begun and resumed by `cadre`, else by cadre_tuner_fit */
    const char *search;
    int slots, workers;
    int asha;       /* 0: none, 1: stopping, 2: promotion, from checkpoints */
    bool the_same;  /* whatever the timing, the trials are those of an undisturbed sweep */
} survive_kind;

extern const survive_kind survive_kinds[];
extern const int survive_kind_count;

/* ---- survive_job.c: the programs that are started ---- */

/** `survive --controller KIND STORAGE NAME TRIALS (new|resume)`: a sweep by the API. */
int survive_controller(int argc, char **argv);
/** `survive --trial ...`: the program that `cadre tune` runs. */
int survive_trial(int argc, char **argv);

/* ---- survive_store.c: what a sweep has left, as long as nobody writes ---- */

typedef struct survive_view {
    char **lines; /* by trial number: state, value, params and reports, as one text */
    bool *ended;
    int count;
} survive_view;

/** Read and check the store of an experiment; false with a line on stderr: damaged, or numbers are missing or doubled. No store is an empty view. */
bool survive_read(const char *directory, survive_view *view);
void survive_forget(survive_view *view);
/** Every trial that had ended before stands as it was. */
bool survive_kept(const survive_view *before, const survive_view *after);
/** Both are the same trials. */
bool survive_same(const survive_view *a, const survive_view *b);
/** The files of a finished experiment: a directory for each trial with its log and reports, the store at rest, nothing temporary. */
bool survive_files(const char *directory, int trials);

#endif
