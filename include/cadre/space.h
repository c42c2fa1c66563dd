/*
 * The search space: which hyperparameters there are, and from what each is drawn.
 *
 *     cadre_param params[] = {
 *         CADRE_LOGUNIFORM("lr", 1e-4, 1e-1),
 *         CADRE_CHOICE("optimizer", "sgd", "adamw"),
 *         CADRE_WHEN("optimizer", "sgd", CADRE_UNIFORM("momentum", 0, 0.99)),
 *         CADRE_CONSTANT_INT("epochs", 10),
 *         CADRE_END,
 *     };
 *
 * The kinds and their bounds are Ray Tune's (python/ray/tune/search/sample.py). "[low, high)" below means that high is
 * never drawn. A stepped kind draws low, low + q, ..., high, both ends included and all with the same chance (of the
 * logarithmic scale for the log ones); Ray rounds, which gives its ends half the chance.
 *
 * Who writes a searcher works with a compiled cadre_space instead: dimensions by number, and a point `double x[]`, one
 * number a dimension in natural units (0.001, not its logarithm), the index of a choice, and NaN for a dimension that
 * is not there under the point's other values.
 */
#ifndef CADRE_SPACE_H
#define CADRE_SPACE_H

#include "cadre/config.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum cadre_param_kind {
    CADRE_PARAM_END = 0,
    CADRE_PARAM_UNIFORM,
    CADRE_PARAM_QUNIFORM,
    CADRE_PARAM_LOGUNIFORM,
    CADRE_PARAM_QLOGUNIFORM,
    CADRE_PARAM_RANDN,
    CADRE_PARAM_QRANDN,
    CADRE_PARAM_RANDINT,
    CADRE_PARAM_QRANDINT,
    CADRE_PARAM_LOGRANDINT,
    CADRE_PARAM_QLOGRANDINT,
    CADRE_PARAM_CHOICE,
    CADRE_PARAM_GRID,
    CADRE_PARAM_CONSTANT,
    CADRE_PARAM_SAMPLE_FROM,
    CADRE_PARAM_WHEN,         /* opens a condition: what follows is there only when `name` has one of `values` ... */
    CADRE_PARAM_WHEN_BETWEEN, /* ... or is a number in [low, high] ... */
    CADRE_PARAM_WHEN_END,     /* ... up to here; conditions nest */
} cadre_param_kind;

typedef enum cadre_value_kind {
    CADRE_VALUE_STRING = 0,
    CADRE_VALUE_INT,
    CADRE_VALUE_DOUBLE,
    CADRE_VALUE_BOOL
} cadre_value_kind;

/** What a space may have at most: lines that give a value, and values of a choice or grid. */
enum { CADRE_MAX_PARAMS = 4096, CADRE_MAX_CHOICES = 10000 };

/** One value of a choice, a grid or a constant. */
typedef struct cadre_value {
    cadre_value_kind kind;
    const char *string;
    int64_t integer;
    double number;
    bool boolean;
} cadre_value;

/**
 * A value computed from the others: called after all that is drawn is set, in the order of the list, with the config so
 * far; it sets `name` in it (once, to a value of any kind) and returns CADRE_OK, or fails with cadre_fail. `random` is
 * 64 random bits, the same whenever this trial is made again: use them instead of rand(). May run on any thread, one
 * call at a time.
 */
typedef int cadre_sample_fn(cadre_config *config, const char *name, uint64_t random, void *user);

/** One line of a space. Written by the macros below or by cadre_param_parse; what it points to is copied by
 * cadre_space_new. */
typedef struct cadre_param {
    cadre_param_kind kind;
    const char *name;
    double low, high;         /* bounds; mean and standard deviation of randn */
    double q;                 /* step of the q kinds */
    cadre_value_kind of;      /* what `values` holds, when `mixed` is NULL */
    const void *values;       /* const char *[], int64_t[], double[] or bool[] */
    int count;                /* of values or mixed */
    const cadre_value *mixed; /* values of several kinds, instead of `values` */
    cadre_sample_fn *sample;
    void *user;  /* handed to sample */
    void *owned; /* of cadre_param_parse; NULL otherwise */
} cadre_param;

/* clang-format off */
#define CADRE_VALUES_OF_(type, ...) .values = (type[]){__VA_ARGS__}, .count = (int)(sizeof((type[]){__VA_ARGS__}) / sizeof(type))
#define CADRE_BOUNDED_(of_kind, name_, low_, high_, q_) {.kind = of_kind, .name = name_, .low = low_, .high = high_, .q = q_}

/** A real number in [low, high). */
#define CADRE_UNIFORM(name, low, high) CADRE_BOUNDED_(CADRE_PARAM_UNIFORM, name, low, high, 0)
/** low, low + q, ..., high; q must divide high - low. */
#define CADRE_QUNIFORM(name, low, high, q) CADRE_BOUNDED_(CADRE_PARAM_QUNIFORM, name, low, high, q)
/** A real number in [low, high), uniform in its logarithm; low > 0. */
#define CADRE_LOGUNIFORM(name, low, high) CADRE_BOUNDED_(CADRE_PARAM_LOGUNIFORM, name, low, high, 0)
#define CADRE_QLOGUNIFORM(name, low, high, q) CADRE_BOUNDED_(CADRE_PARAM_QLOGUNIFORM, name, low, high, q)
/** A normal number. Beyond six standard deviations nothing is drawn (2 in 1e9 would be). */
#define CADRE_RANDN(name, mean, sd) CADRE_BOUNDED_(CADRE_PARAM_RANDN, name, mean, sd, 0)
/** The same, rounded to a multiple of q. */
#define CADRE_QRANDN(name, mean, sd, q) CADRE_BOUNDED_(CADRE_PARAM_QRANDN, name, mean, sd, q)
/** A whole number in [low, high): high is never drawn, as in Ray. */
#define CADRE_RANDINT(name, low, high) CADRE_BOUNDED_(CADRE_PARAM_RANDINT, name, low, high, 0)
/** low, low + q, ..., high, high included; but with q = 1 it is randint and high is not, as in Ray. */
#define CADRE_QRANDINT(name, low, high, q) CADRE_BOUNDED_(CADRE_PARAM_QRANDINT, name, low, high, q)
/** A whole number in [low, high), uniform in its logarithm; low >= 1. */
#define CADRE_LOGRANDINT(name, low, high) CADRE_BOUNDED_(CADRE_PARAM_LOGRANDINT, name, low, high, 0)
/** With high included; but with q = 1 it is lograndint and high is not, as in Ray. */
#define CADRE_QLOGRANDINT(name, low, high, q) CADRE_BOUNDED_(CADRE_PARAM_QLOGRANDINT, name, low, high, q)

/** One of the strings, ints, doubles, bools. */
#define CADRE_CHOICE(name_, ...) {.kind = CADRE_PARAM_CHOICE, .name = name_, .of = CADRE_VALUE_STRING, CADRE_VALUES_OF_(const char *, __VA_ARGS__)}
#define CADRE_CHOICE_INT(name_, ...) {.kind = CADRE_PARAM_CHOICE, .name = name_, .of = CADRE_VALUE_INT, CADRE_VALUES_OF_(int64_t, __VA_ARGS__)}
#define CADRE_CHOICE_DOUBLE(name_, ...) {.kind = CADRE_PARAM_CHOICE, .name = name_, .of = CADRE_VALUE_DOUBLE, CADRE_VALUES_OF_(double, __VA_ARGS__)}
#define CADRE_CHOICE_BOOL(name_) {.kind = CADRE_PARAM_CHOICE, .name = name_, .of = CADRE_VALUE_BOOL, CADRE_VALUES_OF_(bool, false, true)}

/** Every one of the values in turn: auto, random and grid search walk the product of all grids; to the other searchers it is a choice. */
#define CADRE_GRID(name_, ...) {.kind = CADRE_PARAM_GRID, .name = name_, .of = CADRE_VALUE_STRING, CADRE_VALUES_OF_(const char *, __VA_ARGS__)}
#define CADRE_GRID_INT(name_, ...) {.kind = CADRE_PARAM_GRID, .name = name_, .of = CADRE_VALUE_INT, CADRE_VALUES_OF_(int64_t, __VA_ARGS__)}
#define CADRE_GRID_DOUBLE(name_, ...) {.kind = CADRE_PARAM_GRID, .name = name_, .of = CADRE_VALUE_DOUBLE, CADRE_VALUES_OF_(double, __VA_ARGS__)}
#define CADRE_GRID_BOOL(name_) {.kind = CADRE_PARAM_GRID, .name = name_, .of = CADRE_VALUE_BOOL, CADRE_VALUES_OF_(bool, false, true)}

/** The same value in every trial. */
#define CADRE_CONSTANT(name_, value) {.kind = CADRE_PARAM_CONSTANT, .name = name_, .of = CADRE_VALUE_STRING, CADRE_VALUES_OF_(const char *, value)}
#define CADRE_CONSTANT_INT(name_, value) {.kind = CADRE_PARAM_CONSTANT, .name = name_, .of = CADRE_VALUE_INT, CADRE_VALUES_OF_(int64_t, value)}
#define CADRE_CONSTANT_DOUBLE(name_, value) {.kind = CADRE_PARAM_CONSTANT, .name = name_, .of = CADRE_VALUE_DOUBLE, CADRE_VALUES_OF_(double, value)}
#define CADRE_CONSTANT_BOOL(name_, value) {.kind = CADRE_PARAM_CONSTANT, .name = name_, .of = CADRE_VALUE_BOOL, CADRE_VALUES_OF_(bool, value)}

/** Computed by `fn`, see cadre_sample_fn. */
#define CADRE_SAMPLE_FROM(name_, fn, user_) {.kind = CADRE_PARAM_SAMPLE_FROM, .name = name_, .sample = fn, .user = user_}

/** The parameters that follow in the parentheses are there only when the parameter `parent` has this value (written as text: "rbf", "3", "true"). */
#define CADRE_WHEN(parent, value, ...) CADRE_WHEN_ANY(parent, CADRE_VALUES(value), __VA_ARGS__)
/** ... one of these values: CADRE_WHEN_ANY("model", CADRE_VALUES("rbf", "poly"), CADRE_LOGUNIFORM(...), ...). */
#define CADRE_WHEN_ANY(parent, any, ...) {.kind = CADRE_PARAM_WHEN, .name = parent, any}, __VA_ARGS__, {.kind = CADRE_PARAM_WHEN_END}
#define CADRE_VALUES(...) CADRE_VALUES_OF_(const char *, __VA_ARGS__)
/** ... when the parent is a number in [low, high]: CADRE_WHEN_BETWEEN("layers", 2, INFINITY, CADRE_RANDINT("units2", 8, 65)). */
#define CADRE_WHEN_BETWEEN(parent, low_, high_, ...) {.kind = CADRE_PARAM_WHEN_BETWEEN, .name = parent, .low = low_, .high = high_}, __VA_ARGS__, {.kind = CADRE_PARAM_WHEN_END}

/** Ends the list. */
#define CADRE_END {.kind = CADRE_PARAM_END}
/* clang-format on */

/**
 * One parameter from text, as the command line and sweep files have it: "loguniform(1e-4, 1e-1)", "choice(sgd, adamw)",
 * "randint(1, 10)", "grid(1, 2, 3)". Values of a choice are booleans (true, false), whole numbers, numbers, or strings,
 * which need quotes ('...' or "...", with \ before a quote) only where they would read as something else. CADRE_EINVAL:
 * "lr: column 12: ...", columns from 1. Free the result with cadre_param_clear.
 */
CADRE_API int cadre_param_parse(const char *name, const char *text, cadre_param *out);
CADRE_API void cadre_param_clear(cadre_param *param);

/* ---- the compiled space
 * ------------------------------------------------------------------------------------------------- */

typedef struct cadre_space cadre_space;

typedef enum cadre_dim_kind { CADRE_DIM_FLOAT = 0, CADRE_DIM_INT, CADRE_DIM_CATEGORICAL } cadre_dim_kind;

/** A dimension is there when all its conditions hold. */
typedef struct cadre_condition {
    int parent; /* dimension; itself there only when its own conditions hold */
    int count;  /* > 0: the parent has one of `values` (indices of a categorical one); 0: it is in [low, high] */
    const double *values;
    double low, high;
} cadre_condition;

/** Read only; owned by the space. May grow at its end. */
typedef struct cadre_dim {
    const char *name;
    cadre_dim_kind kind;
    cadre_param_kind param; /* the line that it comes from */
    double low, high;       /* both included, high as far as a step reaches; 0 and count - 1 for a categorical one */
    double step;            /* 0: continuous; at least 1 for ints */
    bool log;
    bool normal; /* with mean and sd; low and high are six sd away */
    double mean, sd;
    int count; /* of choices; 0 for the others */
    const cadre_value *choices;
    int conditions;
    const cadre_condition *condition;
} cadre_dim;

/**
 * Compile a list that CADRE_END ends. Everything is copied but `user` of sample functions. CADRE_EINVAL, with a line
 * that names the parameter, for: low > high, a logarithm of what is not positive, a step that does not divide, an empty
 * choice, a value or name that comes twice, a bound that is not finite or (of ints) not whole or beyond 2^53, a
 * condition on a parameter that does not exist, on a value that it cannot have, or in a circle.
 */
CADRE_API int cadre_space_new(const cadre_param *params, cadre_space **out);
CADRE_API void cadre_space_free(cadre_space *space);

/** Number of dimensions (constants and computed values are none), and the i-th, in the order of the list; NULL beyond
 * the last. */
CADRE_API int cadre_space_count(const cadre_space *space);
CADRE_API const cadre_dim *cadre_space_dim(const cadre_space *space, int i);
/** The dimension of that name, or -1. */
CADRE_API int cadre_space_find(const cadre_space *space, const char *name);
/** All dimensions in an order in which a dimension comes after all that its conditions name; of length
 * cadre_space_count. */
CADRE_API const int *cadre_space_order(const cadre_space *space);

/** Whether dimension i is there at x: its conditions hold, and their parents are there. Looks at x of its parents only.
 */
CADRE_API bool cadre_space_active(const cadre_space *space, const double *x, int i);

/** Make x a point of the space: NaN for what is not there, into the bounds and onto the step for what is; a NaN that
 * should be a number becomes the middle. */
CADRE_API void cadre_space_repair(const cadre_space *space, double *x);
/** CADRE_EINVAL with the first dimension at which x is not a point of the space. */
CADRE_API int cadre_space_check(const cadre_space *space, const double *x);

/**
 * A dimension's quantile function: the value below which a share u in [0, 1] of its draws lies, and back (the middle of
 * the values' share for a stepped or categorical one). Uniform u gives the distribution as it is meant; a Sobol or
 * Gaussian-process searcher works in u.
 */
CADRE_API double cadre_dim_from_unit(const cadre_dim *dim, double u);
CADRE_API double cadre_dim_to_unit(const cadre_dim *dim, double value);

/** A random point: the same for the same (seed, stream), on every machine up to the last bit of log and exp. */
CADRE_API void cadre_space_sample(const cadre_space *space, uint64_t seed, uint64_t stream, double *x);

/** The number of combinations of all grids (1 when there are none). CADRE_EINVAL when there are more than `limit`. */
CADRE_API int cadre_space_grid_size(const cadre_space *space, int64_t limit, int64_t *out);

/**
 * The config of a point: what is there, constants, and computed values, in the order of the list; `random` is what
 * cadre_sample_fn is told (mixed with the parameter's name). A new config.
 */
CADRE_API int cadre_space_config(const cadre_space *space, const double *x, uint64_t random, cadre_config **out);
/** The point of a config; NaN for what the config does not have. CADRE_EINVAL for a value that the dimension cannot
 * have; names that are no dimensions are passed over. */
CADRE_API int cadre_space_point(const cadre_space *space, const cadre_config *config, double *x);

/**
 * The dimension as one of Optuna's distributions, JSON in a new string; free() it. NULL: no memory. Where Optuna has
 * none, the narrowest one that holds every value: a bounded Float for a normal one, a log Float without step for
 * qloguniform, a log Int of step 1 for qlograndint.
 */
CADRE_API char *cadre_dim_distribution(const cadre_dim *dim);

/** The whole space as a JSON object, in one line and always the same for the same space; free() it. NULL: no memory. */
CADRE_API char *cadre_space_to_json(const cadre_space *space);
/** 64 bits of it. */
CADRE_API uint64_t cadre_space_hash(const cadre_space *space);
/**
 * What has changed since `before`, which cadre_space_to_json made: *changes is NULL for nothing, or a new line for
 * people, "lr: high was 0.1, is 1; wd is new"; free() it. A computed value's function cannot be compared. CADRE_EINVAL
 * when `before` is not such JSON.
 */
CADRE_API int cadre_space_changes(const cadre_space *space, const char *before, char **changes);

#ifdef __cplusplus
}
#endif
#endif
