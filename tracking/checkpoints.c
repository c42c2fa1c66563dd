#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "tracking/internal.h"

#include <math.h>
#include <stdlib.h>

int tracking_checkpoint_add(tracking_store *store, int64_t trial, tracking_checkpoint *checkpoint)
{
    tracking_known_trial *known;
    int status = tracking_know_open_trial(store, trial, &known);
    if (status != CADRE_OK)
        return status;
    if (!*checkpoint->path || !tracking_utf8_ok(checkpoint->path))
        return base_error(CADRE_EINVAL, "store %s: a checkpoint needs a path in UTF-8", store->path);
    char now[BASE_UTC_TEXT];
    base_utc_format(base_utc_us(), now);
    int64_t id = store->last_checkpoint_id + 1;
    status = tracking_put(
        store, TRACKING_SQL_CHECKPOINT_ADD,
        TRACKING_ARGS(tracking_int(id), tracking_int(trial), tracking_int(checkpoint->attempt),
                      tracking_int(checkpoint->report), tracking_int(checkpoint->step), tracking_text(checkpoint->path),
                      tracking_text(checkpoint->hash), tracking_int(checkpoint->nbytes),
                      tracking_real(checkpoint->has_score ? checkpoint->score : NAN), tracking_text(now)));
    if (status != CADRE_OK)
        return status;
    store->last_checkpoint_id = id;
    checkpoint->id = id;
    checkpoint->trial = trial;
    return CADRE_OK;
}

int tracking_checkpoint_remove(tracking_store *store, int64_t id)
{
    int status = tracking_check_writer(store);
    return status == CADRE_OK ? tracking_put(store, TRACKING_SQL_CHECKPOINT_DROP, TRACKING_ARGS(tracking_int(id)))
                              : status;
}

void tracking_row_checkpoint(sqlite3_stmt *statement, tracking_checkpoint *checkpoint)
{
    *checkpoint = (tracking_checkpoint){
        .id = sqlite3_column_int64(statement, 0),
        .trial = sqlite3_column_int64(statement, 1),
        .attempt = sqlite3_column_int(statement, 2),
        .report = tracking_column_count(statement, 3),
        .step = sqlite3_column_int64(statement, 4),
        .nbytes = sqlite3_column_int64(statement, 7),
        .has_score = sqlite3_column_type(statement, 8) != SQLITE_NULL,
    };
    tracking_column_text(statement, 5, checkpoint->path, sizeof checkpoint->path);
    tracking_column_text(statement, 6, checkpoint->hash, sizeof checkpoint->hash);
    checkpoint->score = checkpoint->has_score ? sqlite3_column_double(statement, 8) : NAN;
}

int tracking_checkpoints(tracking_store *store, int64_t trial, tracking_checkpoint **list, int *count)
{
    tracking_checkpoint *rows = NULL;
    int used = 0;
    sqlite3_stmt *statement;
    bool row;
    int status = tracking_query(store, TRACKING_SQL_CHECKPOINT_LIST, TRACKING_ARGS(tracking_int(trial)), &statement);
    while (status == CADRE_OK && (status = tracking_step(store, statement, &row)) == CADRE_OK && row) {
        if ((used & (used - 1)) == 0) { /* grows at powers of two */
            tracking_checkpoint *larger = base_realloc(rows, (used ? 2 * (size_t)used : 1) * sizeof *rows);
            if (!larger) {
                sqlite3_reset(statement);
                status = CADRE_ENOMEM;
                break;
            }
            rows = larger;
        }
        tracking_row_checkpoint(statement, &rows[used++]);
    }
    if (status != CADRE_OK) {
        free(rows);
        return status;
    }
    *list = rows;
    *count = used;
    return CADRE_OK;
}
