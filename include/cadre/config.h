/*
 * A config: the hyperparameters of one trial, by name. The train function gets one and reads it; it never changes there.
 */
#ifndef CADRE_CONFIG_H
#define CADRE_CONFIG_H

#include "cadre/status.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cadre_config cadre_config;

/** An empty config; free it with cadre_config_free. CADRE_ENOMEM. */
CADRE_API int cadre_config_new(cadre_config **out);
CADRE_API void cadre_config_free(cadre_config *config);

/** Set a value, replacing one of that name in its place. Names and strings are copied. CADRE_EINVAL for an empty name, for what is
 *  not UTF-8, and for NaN and infinity (neither JSON nor the store has them: leave such a value out), CADRE_ENOMEM. */
CADRE_API int cadre_config_set_double(cadre_config *config, const char *name, double value);
CADRE_API int cadre_config_set_int(cadre_config *config, const char *name, int64_t value);
CADRE_API int cadre_config_set_bool(cadre_config *config, const char *name, bool value);
CADRE_API int cadre_config_set_string(cadre_config *config, const char *name, const char *value);

/**
 * The value of that name, or `fallback` when there is none, the config is NULL, or it is of a kind that does not convert (an int
 * reads as a double; a whole double as an int). A string is borrowed from the config.
 */
CADRE_API double cadre_config_double(const cadre_config *config, const char *name, double fallback);
CADRE_API int64_t cadre_config_int(const cadre_config *config, const char *name, int64_t fallback);
CADRE_API bool cadre_config_bool(const cadre_config *config, const char *name, bool fallback);
CADRE_API const char *cadre_config_string(const cadre_config *config, const char *name, const char *fallback);

/** Number of values, and the i-th name in the order in which they were set (borrowed; NULL beyond the last). */
CADRE_API int cadre_config_count(const cadre_config *config);
CADRE_API const char *cadre_config_name(const cadre_config *config, int index);

/** As a JSON object in one line, in order, in a new string; free() it. Integers are exact; a double has as many digits as it takes to
 *  read back as the same, and a point or an exponent, so that it stays a double. NULL: no memory. */
CADRE_API char *cadre_config_to_json(const cadre_config *config);
/** From a JSON object of numbers, strings and booleans. CADRE_EINVAL names line and column of what is no JSON, or the name of a value that
 *  is of another kind. */
CADRE_API int cadre_config_from_json(const char *json, cadre_config **out);

#ifdef __cplusplus
}
#endif
#endif
