/* A compiled space from inside. space_compile.c makes it, the other space_*.c read it. */
#ifndef TUNER_SPACE_H
#define TUNER_SPACE_H

#include "base/buffer.h"
#include "cadre/space.h"
#include "tuner/space_arena.h"

/* A line of the list that gives the config a value: a dimension, a constant or a computed value. */
typedef struct tuner_entry {
    const char *name;
    cadre_param_kind kind;
    int dim; /* -1: none */
    int conditions;
    cadre_condition *condition;
    cadre_value constant;
    cadre_sample_fn *sample;
    void *user;
} tuner_entry;

struct cadre_space {
    tuner_arena arena;
    int count; /* dimensions */
    cadre_dim *dims;
    int *order;
    int entries;
    tuner_entry *entry;
};

/** Whether the conditions hold at x, their parents being there. */
bool tuner_conditions_hold(const cadre_space *space, const double *x, const cadre_condition *condition, int count);

/** Draw what is open (NaN) at x, each from its distribution, and take out what has no place under the conditions then. */
void tuner_space_fill(const cadre_space *space, uint64_t seed, uint64_t stream, double *x);

/** The number of values that a stepped dimension has. */
double tuner_dim_steps(const cadre_dim *dim);
/** The value of a dimension that is nearest: in the bounds, on the step, whole; the middle for NaN. */
double tuner_dim_nearest(const cadre_dim *dim, double value);

/** The bounds between which a density over the dimension lives: widened by half a step, and logarithms where the
 * dimension is log. */
void tuner_dim_range(const cadre_dim *dim, double *low, double *high);

/** Append the shortest text that reads back as the same double, with a point or an exponent. */
int tuner_put_double(base_buffer *out, double value);
/** Append as a JSON string. */
int tuner_put_string(base_buffer *out, const char *text);
/** Append as JSON. */
int tuner_put_value(base_buffer *out, const cadre_value *value);

/** Whether `text` is how this value is written in a condition. */
bool tuner_value_matches(const cadre_value *value, const char *text);
bool tuner_values_equal(const cadre_value *a, const cadre_value *b);

/** Quantile of the standard normal distribution, p in (0, 1). */
double tuner_normal_quantile(double p);

#endif
