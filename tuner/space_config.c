/* From a point to the config that a trial gets, and back. */
#include "base/error.h"
#include "base/rng.h"
#include "trainer/state/config.h"
#include "tuner/space.h"

#include <math.h>
#include <string.h>

static int set_value(cadre_config *config, const char *name, const cadre_value *value)
{
    switch (value->kind) {
    case CADRE_VALUE_STRING:
        return cadre_config_set_string(config, name, value->string);
    case CADRE_VALUE_INT:
        return cadre_config_set_int(config, name, value->integer);
    case CADRE_VALUE_DOUBLE:
        return cadre_config_set_double(config, name, value->number);
    default:
        return cadre_config_set_bool(config, name, value->boolean);
    }
}

static int set_dim(cadre_config *config, const cadre_dim *dim, double x)
{
    if (dim->choices)
        return set_value(config, dim->name, &dim->choices[(int)x]);
    return dim->kind == CADRE_DIM_INT ? cadre_config_set_int(config, dim->name, (int64_t)x)
                                      : cadre_config_set_double(config, dim->name, x);
}

static uint64_t name_bits(const char *name)
{
    uint64_t bits = 0;
    while (*name)
        bits = base_rng_mix(bits, (unsigned char)*name++);
    return bits;
}

static int compute(cadre_config *config, const tuner_entry *entry, uint64_t random)
{
    int status = entry->sample(config, entry->name, base_rng_mix(random, name_bits(entry->name)), entry->user);
    if (status)
        return base_wrap(status < 0 ? status : CADRE_EINVAL, "compute %s", entry->name);
    if (state_config_kind_of(config, entry->name) == STATE_CONFIG_NONE)
        return base_error(CADRE_EINVAL, "compute %s: its function did not set it", entry->name);
    return CADRE_OK;
}

/* A name's place in a config is where it was first set: computed values are set last, so the config is written anew in
 * the list's order. */
static int copy_in_order(const cadre_space *space, const cadre_config *from, cadre_config *to)
{
    for (int i = 0; i < space->entries; i++) {
        const char *name = space->entry[i].name;
        int status = CADRE_OK;
        switch (state_config_kind_of(from, name)) {
        case STATE_CONFIG_NONE:
            break;
        case STATE_CONFIG_DOUBLE:
            status = cadre_config_set_double(to, name, cadre_config_double(from, name, 0));
            break;
        case STATE_CONFIG_INT:
            status = cadre_config_set_int(to, name, cadre_config_int(from, name, 0));
            break;
        case STATE_CONFIG_BOOL:
            status = cadre_config_set_bool(to, name, cadre_config_bool(from, name, false));
            break;
        case STATE_CONFIG_STRING:
            status = cadre_config_set_string(to, name, cadre_config_string(from, name, ""));
            break;
        }
        if (status)
            return status;
    }
    return CADRE_OK;
}

static int fill(const cadre_space *space, const double *x, uint64_t random, cadre_config *config, bool *computed)
{
    int status = CADRE_OK;
    for (int i = 0; i < space->entries && !status; i++) {
        const tuner_entry *entry = &space->entry[i];
        if (entry->kind == CADRE_PARAM_SAMPLE_FROM ||
            !tuner_conditions_hold(space, x, entry->condition, entry->conditions))
            continue;
        status = entry->dim >= 0 ? set_dim(config, &space->dims[entry->dim], x[entry->dim])
                                 : set_value(config, entry->name, &entry->constant);
    }
    for (int i = 0; i < space->entries && !status; i++) {
        const tuner_entry *entry = &space->entry[i];
        if (entry->kind != CADRE_PARAM_SAMPLE_FROM ||
            !tuner_conditions_hold(space, x, entry->condition, entry->conditions))
            continue;
        *computed = true;
        status = compute(config, entry, random);
    }
    return status;
}

int cadre_space_config(const cadre_space *space, const double *x, uint64_t random, cadre_config **out)
{
    cadre_config *config = NULL, *ordered = NULL;
    bool computed = false;
    int status = cadre_space_check(space, x);
    if (!status)
        status = cadre_config_new(&config);
    if (!status)
        status = fill(space, x, random, config, &computed);
    if (!status && computed) {
        status = cadre_config_new(&ordered);
        if (!status)
            status = copy_in_order(space, config, ordered);
    }
    if (!status)
        *out = computed ? ordered : config;
    if (status || computed)
        cadre_config_free(config);
    if (status)
        cadre_config_free(ordered);
    return status;
}

static bool chosen(const cadre_config *config, const cadre_dim *dim, const cadre_value *choice)
{
    switch (state_config_kind_of(config, dim->name)) {
    case STATE_CONFIG_STRING:
        return choice->kind == CADRE_VALUE_STRING &&
               strcmp(choice->string, cadre_config_string(config, dim->name, "")) == 0;
    case STATE_CONFIG_BOOL:
        return choice->kind == CADRE_VALUE_BOOL && choice->boolean == cadre_config_bool(config, dim->name, false);
    case STATE_CONFIG_INT: /* 1 is taken for 1.0, as JSON written by others may have it */
        return choice->kind == CADRE_VALUE_INT ? choice->integer == cadre_config_int(config, dim->name, 0)
                                               : choice->kind == CADRE_VALUE_DOUBLE &&
                                                     choice->number == (double)cadre_config_int(config, dim->name, 0);
    case STATE_CONFIG_DOUBLE:
        return (choice->kind == CADRE_VALUE_DOUBLE ? choice->number : (double)choice->integer) ==
                   cadre_config_double(config, dim->name, 0) &&
               (choice->kind == CADRE_VALUE_DOUBLE || choice->kind == CADRE_VALUE_INT);
    default:
        return false;
    }
}

static int point_of(const cadre_config *config, const cadre_dim *dim, double *out)
{
    state_config_kind kind = state_config_kind_of(config, dim->name);
    for (int i = 0; i < dim->count; i++)
        if (chosen(config, dim, &dim->choices[i])) {
            *out = i;
            return CADRE_OK;
        }
    if (dim->choices)
        return base_error(CADRE_EINVAL, "%s: not one of its choices", dim->name);
    if (kind != STATE_CONFIG_DOUBLE && kind != STATE_CONFIG_INT)
        return base_error(CADRE_EINVAL, "%s: not a number", dim->name);
    double value = cadre_config_double(config, dim->name, NAN), nearest = tuner_dim_nearest(dim, value);
    if (value < dim->low || value > dim->high)
        return base_error(CADRE_EINVAL, "%s: %.15g is not in %.15g to %.15g", dim->name, value, dim->low, dim->high);
    if (dim->step > 0 && fabs(nearest - value) > 1e-6 * dim->step)
        return base_error(CADRE_EINVAL, "%s: %.15g is not on a step; %.15g is", dim->name, value, nearest);
    *out = nearest;
    return CADRE_OK;
}

int cadre_space_point(const cadre_space *space, const cadre_config *config, double *x)
{
    for (int pass = 0; pass < 2; pass++) /* x is written when all is well */
        for (int i = 0; i < space->count; i++) {
            double value = NAN;
            int status = state_config_kind_of(config, space->dims[i].name) == STATE_CONFIG_NONE
                             ? CADRE_OK
                             : point_of(config, &space->dims[i], &value);
            if (status)
                return status;
            if (pass == 1)
                x[i] = value;
        }
    return CADRE_OK;
}
