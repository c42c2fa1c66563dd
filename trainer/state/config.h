/* What the other rooms want to know of a config beyond its public face. */
#ifndef TRAINER_STATE_CONFIG_H
#define TRAINER_STATE_CONFIG_H

#include "cadre/config.h"

#include <jansson.h>

typedef enum state_config_kind {
    STATE_CONFIG_NONE, /* there is no value of that name */
    STATE_CONFIG_DOUBLE,
    STATE_CONFIG_INT,
    STATE_CONFIG_BOOL,
    STATE_CONFIG_STRING,
} state_config_kind;

/** The kind of the value of that name as it was set, without conversion. */
state_config_kind state_config_kind_of(const cadre_config *config, const char *name);

/** As a new JSON object, in order; NULL: no memory. Give it back with json_decref. */
json_t *state_config_to_object(const cadre_config *config);
/** From a JSON object of numbers, strings and booleans; CADRE_EINVAL names the value that is none. */
int state_config_from_object(const json_t *object, cadre_config **out);

#endif
