/*
 * What mattered: which parameters set the best trials apart from the rest, over points and values alone. importance.c tells how.
 */
#ifndef TUNER_IMPORTANCE_H
#define TUNER_IMPORTANCE_H

#include <stdbool.h>

/* A parameter as it was searched. */
typedef struct importance_param {
    double low, high; /* of a number, both included, in natural units */
    double step;      /* 0: continuous */
    bool log;
    int choices; /* above 0: a choice, whose values are indices from 0 */
} importance_param;

/* Trials that have a value. */
typedef struct importance_trials {
    int trials, params;
    const importance_param *param;
    const double *x;     /* [trial * params + param]; NaN: the trial does not have it */
    const double *value; /* lower is better, no NaN */
    const bool *pruned;  /* such a trial counts as worse than all that are not; NULL: none is */
} importance_trials;

typedef struct importance_score {
    double share;  /* of what all parameters matter together; they sum to 1, or are all 0 */
    double chance; /* how often as many trials, drawn by lot, are set apart as much: below 0.05 it is hardly chance. 1 where nothing can be said */
    int trials;    /* that have it */
} importance_score;

typedef enum importance_verdict {
    IMPORTANCE_FOUND,
    IMPORTANCE_TOO_FEW,  /* fewer than IMPORTANCE_LEAST trials */
    IMPORTANCE_CONSTANT, /* more than half of the trials are equally the best */
    IMPORTANCE_NONE,     /* nothing is set apart */
} importance_verdict;

enum { IMPORTANCE_LEAST = 10 };

/** Scores of all parameters into `scores`, the number of trials taken as the best into `*top`. CADRE_ENOMEM leaves both untouched. */
int importance_of(const importance_trials *trials, importance_score *scores, int *top, importance_verdict *verdict);

/* Why a trial is where it is, as far as one parameter tells. */
typedef struct importance_reason {
    double below, above; /* shares of the other trials with a lesser and a greater value of the parameter; of a choice `below` is the share with another one */
    double typical;      /* the median of the trials' values of it; of a choice the one that is most frequent */
    double near_own, near_typical; /* mean of what trials came to that are near the trial's value, and near `typical` */
} importance_reason;

/** False when it cannot be told: the trial does not have the parameter, or nothing but trials at one value is there. Pruned trials are left out. */
bool importance_why(const importance_trials *trials, int trial, int param, importance_reason *reason);

#endif
