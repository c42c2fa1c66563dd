/* A sweep: what a tree (sweep_tree.h) says, checked, as the tuner's options. */
#ifndef TUNER_SWEEP_H
#define TUNER_SWEEP_H

#include "cadre/tuner.h"
#include "tuner/command.h"
#include "tuner/sweep_tree.h"

typedef struct sweep {
    char *name, *storage, *metric, *time_attr;
    cadre_mode mode;
    command_spec command;
    cadre_param *params; /* ended by CADRE_END */
    int param_count;
    char **borrowed; /* texts that params refer to */
    int borrowed_count;
    cadre_search search; /* its json, name and points are owned */
    cadre_config **points;
    cadre_scheduler scheduler;
    union {
        cadre_asha_options asha;
        cadre_hyperband_options hyperband;
        cadre_percentile_options percentile;
        cadre_median_options median;
    } schedule;
    cadre_stop stop;
    int64_t num_samples;
    int max_concurrent, max_failures;
    double cores, gpus; /* per trial */
    double hang_timeout_s, grace_s;
    uint64_t seed;
    bool fail_fast;
} sweep;

/**
 * Check the tree and make a sweep of it; nothing on disk or PATH is looked at but the points' values. CADRE_EINVAL says
 * what is wrong and where. Words of the command become strings in the tree, whatever YAML took them for.
 */
int sweep_new(sweep_node *tree, sweep **out);
void sweep_close(sweep *sweep);

/** Fill the options, which borrow from the sweep. */
void sweep_options(const sweep *sweep, cadre_trainer *trainer, cadre_tuner *tuner);

/** "90", "1.5h", "10m", "30 s" as seconds; false: it is none. */
bool sweep_duration(const char *text, double *seconds);

/* ---- parts: sweep_params.c, sweep_search.c ---- */

int sweep_build_params(sweep_node *tree, sweep *sweep);
/** With the space there is: the searcher, the scheduler and the stoppers, each tried once. */
int sweep_build_search(sweep_node *tree, sweep *sweep, const cadre_space *space);

/* What each value may be; `*out` is untouched where the key is missing. */
int sweep_take_text(const sweep_node *map, const char *key, char **out);
int sweep_take_int(const sweep_node *map, const char *key, int64_t low, int64_t high, int64_t *out);
int sweep_take_number(const sweep_node *map, const char *key, double low, double *out);
/** Above 0. */
int sweep_take_positive(const sweep_node *map, const char *key, double *out);
int sweep_take_bool(const sweep_node *map, const char *key, bool *out);
int sweep_take_seconds(const sweep_node *map, const char *key, double *out);

#endif
