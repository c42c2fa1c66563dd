/*
 * A trial's params, twice: as Optuna has them and, exactly as they were given, in cadre_params.
 *
 * A constant of the config is a param that was not searched. In Optuna's table a number becomes a Float or Int
 * distribution of one point, anything else a categorical of one choice. Why not a one-choice categorical for all: from
 * run to run of one experiment a constant changes ("lr" by hand). Optuna never compares distributions when it loads or
 * plots, but as it continues a study it refuses a categorical whose choices differ from an earlier trial's, while the
 * bounds of a Float or Int may differ freely; and plots get a numeric axis. Samplers leave out distributions of one
 * point. User attributes instead would have hidden from every plot what a run without a tuner was all about.
 */
#include "base/error.h"
#include "base/mem.h"
#include "tracking/internal.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The one-point distribution for the constant `json`, whose text is kept: the same digits that the program gave. */
static char *constant_distribution(const char *json, const json_t *value, double *stored)
{
    *stored = 0; /* the index of the only choice */
    if (json_is_integer(value)) {
        *stored = (double)json_integer_value(value);
        return base_sprintf(
            "{\"name\": \"IntDistribution\", \"attributes\": {\"log\": false, \"step\": 1, \"low\": %s, \"high\": %s}}",
            json, json);
    }
    if (json_is_real(value)) {
        *stored = json_real_value(value);
        return base_sprintf("{\"name\": \"FloatDistribution\", \"attributes\": {\"step\": null, \"low\": %s, \"high\": "
                            "%s, \"log\": false}}",
                            json, json);
    }
    const char *format = "{\"name\": \"CategoricalDistribution\", \"attributes\": {\"choices\": [%s]}}";
    if (!json_is_object(value) && !json_is_array(value))
        return base_sprintf(format, json);
    json_t *text = json_string(json); /* choices may not be lists or objects: their text then */
    char *quoted = text ? json_dumps(text, JSON_ENCODE_ANY) : NULL;
    char *distribution = quoted ? base_sprintf(format, quoted) : NULL;
    json_decref(text);
    free(quoted);
    return distribution;
}

/* One distribution that Optuna cannot read makes it refuse the whole study. */
static int check_distribution(const tracking_store *store, const tracking_param *param)
{
    json_t *distribution = json_loads(param->distribution_json, 0, NULL);
    const char *name = json_string_value(json_object_get(distribution, "name"));
    const json_t *attributes = json_object_get(distribution, "attributes");
    bool fine = name && json_is_object(attributes) && isfinite(param->value);
    if (fine && strcmp(name, "CategoricalDistribution") == 0) {
        size_t choices = json_array_size(json_object_get(attributes, "choices"));
        fine = param->value >= 0 && param->value < (double)choices && param->value == floor(param->value);
    } else if (fine)
        fine = (strcmp(name, "FloatDistribution") == 0 || strcmp(name, "IntDistribution") == 0) &&
               json_is_number(json_object_get(attributes, "low")) &&
               json_is_number(json_object_get(attributes, "high"));
    json_decref(distribution);
    return fine ? CADRE_OK
                : base_error(CADRE_EINVAL, "store %s: param %s: the value %g does not fit the distribution %s",
                             store->path, param->name, param->value, param->distribution_json);
}

static int put_param(tracking_store *store, int64_t trial, int position, const tracking_param *param)
{
    json_error_t error;
    int status = tracking_check_name(store, param->name, "a param");
    if (status != CADRE_OK)
        return status;
    json_t *value = param->json ? json_loads(param->json, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error) : NULL;
    if (!value)
        return base_error(CADRE_EINVAL, "store %s: the value of param %s is not JSON", store->path, param->name);
    double stored = param->value;
    char *constant = NULL;
    if (param->distribution_json)
        status = check_distribution(store, param);
    else {
        constant = constant_distribution(param->json, value, &stored);
        status = constant ? CADRE_OK : base_error(CADRE_ENOMEM, "store %s: out of memory", store->path);
    }
    if (status == CADRE_OK)
        status = tracking_put(store, TRACKING_SQL_PARAM_ADD,
                              TRACKING_ARGS(tracking_int(trial), tracking_text(param->name), tracking_real(stored),
                                            tracking_text(constant ? constant : param->distribution_json)));
    if (status == CADRE_OK)
        status = tracking_put(store, TRACKING_SQL_OWN_PARAM_ADD,
                              TRACKING_ARGS(tracking_int(trial), tracking_int(position), tracking_text(param->name),
                                            tracking_text(param->json)));
    free(constant);
    json_decref(value);
    return status;
}

int tracking_put_params(tracking_store *store, int64_t trial, const tracking_param *params, int count)
{
    int status = CADRE_OK;
    for (int i = 0; status == CADRE_OK && i < count; i++) {
        for (int before = 0; before < i; before++)
            if (params[i].name && strcmp(params[i].name, params[before].name) == 0)
                return base_error(CADRE_EINVAL, "store %s: param %s is there twice", store->path, params[i].name);
        status = put_param(store, trial, i, &params[i]);
    }
    return status;
}
