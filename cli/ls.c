/* `cadre ls`: the experiments below a directory. */
#include "cli.h"

#include "base/error.h"

#include <stdio.h>
#include <string.h>

struct listing {
    cli_table *table;
    json_t *array;
    const char *path;
    bool running;
    char owner[512];
    int stores, broken;
};

static int add_json(struct listing *list, const tracking_experiment_row *row)
{
    json_t *item = json_pack(
        "{s:o, s:s, s:b, s:o, s:s, s:{s:I, s:I, s:I, s:I, s:I}, s:o, s:o, s:b, s:o}", "experiment",
        cli_json_text(row->name), "path", list->path, "running", list->running, "metric",
        *row->metric ? cli_json_text(row->metric) : json_null(), "direction",
        row->direction == TRACKING_MAXIMIZE ? "maximize" : "minimize", "trials", "running", (json_int_t)row->running,
        "waiting", (json_int_t)row->waiting, "complete", (json_int_t)row->complete, "pruned", (json_int_t)row->pruned,
        "failed", (json_int_t)row->failed, "best", row->has_best ? cli_json_real(row->best) : json_null(), "best_trial",
        row->has_best ? json_integer(row->best_number) : json_null(), "best_is_so_far", row->best_so_far,
        "last_activity", *row->last_activity ? json_string(row->last_activity) : json_null());
    return item && json_array_append_new(list->array, item) == 0 ? CADRE_OK : base_error(CADRE_ENOMEM, "out of memory");
}

static int add_experiment(const tracking_experiment_row *row, void *user)
{
    struct listing *list = user;
    char value[32], when[32];
    if (list->array)
        return add_json(list, row);
    cli_cell(list->table, "%s", row->name);
    cli_cell(list->table, "%s", list->running ? "running" : row->running ? "interrupted" : "ended");
    cli_cell(list->table, "%lld", (long long)row->running);
    cli_cell(list->table, "%lld", (long long)row->complete);
    cli_cell(list->table, "%lld", (long long)row->pruned);
    cli_cell(list->table, "%lld", (long long)row->failed);
    cli_cell(list->table, "%s", *row->metric ? row->metric : "-");
    cli_cell(list->table, "%s", row->has_best ? cli_value_text(row->best, value) : "-");
    cli_cell(list->table, "%s", cli_time_text(row->last_activity, when));
    cli_cell(list->table, "%s", list->path);
    return CADRE_OK;
}

/* One store that cannot be read does not keep the others from being listed. */
static int add_store(const char *path, void *user)
{
    struct listing *list = user;
    tracking_store *store = NULL;
    list->path = path;
    list->running = tracking_lock_held(path, list->owner, sizeof list->owner);
    list->stores++;
    int status = tracking_open_reader(path, &store);
    if (status == CADRE_OK)
        status = tracking_each_experiment(store, add_experiment, list);
    tracking_close(store);
    if (status == CADRE_ENOENT && list->running)
        return CADRE_OK; /* its owner is about to make the tables */
    if (status != CADRE_OK) {
        cli_fail("%s", cadre_error_message());
        list->broken++;
    }
    return CADRE_OK;
}

int cli_ls(int argc, char **argv)
{
    bool json = false;
    const char *directory = "runs";
    int words =
        cli_options("ls", argc, argv, (const cli_option[]){{"--json", &json, NULL}, {NULL, NULL, NULL}}, &directory, 1);
    if (words < 0)
        return CLI_MISUSED;
    struct listing list = {0};
    if (json)
        list.array = json_array();
    else
        list.table =
            cli_table_new("EXPERIMENT|STATE|>RUNNING|>COMPLETE|>PRUNED|>FAILED|METRIC|>BEST|LAST ACTIVITY (UTC)|STORE");
    if (!list.array && !list.table)
        return cli_fail("out of memory");
    int status = cli_each_store(directory, add_store, &list);
    int code = list.broken ? CLI_FAILED : CLI_DONE;
    if (status != CADRE_OK)
        code = cli_fail("no runs: %s", cadre_error_message());
    else if (json)
        code = cli_json_print(json_incref(list.array)) == CLI_DONE ? code : CLI_FAILED;
    else if (!list.stores)
        code = cli_fail("no runs in %s", directory);
    else {
        cli_table_print(list.table, 0);
        list.table = NULL;
    }
    cli_table_free(list.table);
    json_decref(list.array);
    return code;
}
