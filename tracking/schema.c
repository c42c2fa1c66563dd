/*
 * The tables: Optuna's thirteen as Optuna 5.0.0 makes them (schema version 12, alembic head v3.2.0.a, unchanged since
 * 2023), and ours. Made in one transaction together with the marks by which a store is known, so that a store has all
 * of it or is an empty file.
 */
#include "base/error.h"
#include "tracking/internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
    APPLICATION_ID = 0x43616472, /* "Cadr" */
    VERSION = 1                  /* of our tables; also in TRACKING_SAME_VERSION */
};

#define ALEMBIC_HEAD "v3.2.0.a"

static const char *const optuna_tables[] = {
    "CREATE TABLE studies (study_id INTEGER NOT NULL, study_name VARCHAR(512) NOT NULL, PRIMARY KEY (study_id))",
    "CREATE UNIQUE INDEX ix_studies_study_name ON studies (study_name)",
    "CREATE TABLE version_info (version_info_id INTEGER NOT NULL, schema_version INTEGER, library_version "
    "VARCHAR(256), "
    "PRIMARY KEY (version_info_id), CHECK (version_info_id=1))",
    "CREATE TABLE study_directions (study_direction_id INTEGER NOT NULL, direction VARCHAR(8) NOT NULL, "
    "study_id INTEGER NOT NULL, objective INTEGER NOT NULL, PRIMARY KEY (study_direction_id), "
    "UNIQUE (study_id, objective), FOREIGN KEY(study_id) REFERENCES studies (study_id))",
    "CREATE TABLE study_user_attributes (study_user_attribute_id INTEGER NOT NULL, study_id INTEGER, "
    "\"key\" VARCHAR(512), value_json TEXT, PRIMARY KEY (study_user_attribute_id), UNIQUE (study_id, \"key\"), "
    "FOREIGN KEY(study_id) REFERENCES studies (study_id))",
    "CREATE TABLE study_system_attributes (study_system_attribute_id INTEGER NOT NULL, study_id INTEGER, "
    "\"key\" VARCHAR(512), value_json TEXT, PRIMARY KEY (study_system_attribute_id), UNIQUE (study_id, \"key\"), "
    "FOREIGN KEY(study_id) REFERENCES studies (study_id))",
    "CREATE TABLE trials (trial_id INTEGER NOT NULL, number INTEGER, study_id INTEGER, state VARCHAR(8) NOT NULL, "
    "datetime_start DATETIME, datetime_complete DATETIME, PRIMARY KEY (trial_id), "
    "FOREIGN KEY(study_id) REFERENCES studies (study_id))",
    "CREATE INDEX ix_trials_study_id ON trials (study_id)",
    "CREATE TABLE trial_user_attributes (trial_user_attribute_id INTEGER NOT NULL, trial_id INTEGER, "
    "\"key\" VARCHAR(512), value_json TEXT, PRIMARY KEY (trial_user_attribute_id), UNIQUE (trial_id, \"key\"), "
    "FOREIGN KEY(trial_id) REFERENCES trials (trial_id))",
    "CREATE TABLE trial_system_attributes (trial_system_attribute_id INTEGER NOT NULL, trial_id INTEGER, "
    "\"key\" VARCHAR(512), value_json TEXT, PRIMARY KEY (trial_system_attribute_id), UNIQUE (trial_id, \"key\"), "
    "FOREIGN KEY(trial_id) REFERENCES trials (trial_id))",
    "CREATE TABLE trial_params (param_id INTEGER NOT NULL, trial_id INTEGER, param_name VARCHAR(512), "
    "param_value FLOAT, distribution_json TEXT, PRIMARY KEY (param_id), UNIQUE (trial_id, param_name), "
    "FOREIGN KEY(trial_id) REFERENCES trials (trial_id))",
    "CREATE TABLE trial_values (trial_value_id INTEGER NOT NULL, trial_id INTEGER NOT NULL, "
    "objective INTEGER NOT NULL, value FLOAT, value_type VARCHAR(7) NOT NULL, PRIMARY KEY (trial_value_id), "
    "UNIQUE (trial_id, objective), FOREIGN KEY(trial_id) REFERENCES trials (trial_id))",
    "CREATE TABLE trial_intermediate_values (trial_intermediate_value_id INTEGER NOT NULL, trial_id INTEGER NOT NULL, "
    "step INTEGER NOT NULL, intermediate_value FLOAT, intermediate_value_type VARCHAR(7) NOT NULL, "
    "PRIMARY KEY (trial_intermediate_value_id), UNIQUE (trial_id, step), "
    "FOREIGN KEY(trial_id) REFERENCES trials (trial_id))",
    "CREATE TABLE trial_heartbeats (trial_heartbeat_id INTEGER NOT NULL, trial_id INTEGER NOT NULL, "
    "heartbeat DATETIME NOT NULL, PRIMARY KEY (trial_heartbeat_id), UNIQUE (trial_id), "
    "FOREIGN KEY(trial_id) REFERENCES trials (trial_id))",
    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
    "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))",
    "INSERT INTO version_info VALUES (1, 12, 'cadre')",
    "INSERT INTO alembic_version VALUES ('" ALEMBIC_HEAD "')",
};

/*
 * Ours. Where rows come fast (reports, metrics, events) the key is the row's place, growing at the trial's end: no
 * second tree to keep. A metric is one row of four small numbers, its name an id; a value that is NULL was not a
 * number. Times are UTC, as microseconds since 1970 where rows come fast, as Optuna's text elsewhere.
 */
static const char *const own_tables[] = {
    "CREATE TABLE cadre_experiments (experiment_id INTEGER NOT NULL, \"key\" TEXT NOT NULL, value_json TEXT NOT NULL, "
    "PRIMARY KEY (experiment_id, \"key\")) WITHOUT ROWID",
    "CREATE TABLE cadre_trials (trial_id INTEGER PRIMARY KEY, detail TEXT, reason TEXT)",
    "CREATE TABLE cadre_params (trial_id INTEGER NOT NULL, position INTEGER NOT NULL, name TEXT NOT NULL, "
    "value_json TEXT NOT NULL, PRIMARY KEY (trial_id, position)) WITHOUT ROWID",
    "CREATE TABLE cadre_names (name_id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    "CREATE TABLE cadre_reports (trial_id INTEGER NOT NULL, report INTEGER NOT NULL, step INTEGER NOT NULL, "
    "attempt INTEGER NOT NULL, time_us INTEGER NOT NULL, PRIMARY KEY (trial_id, report)) WITHOUT ROWID",
    "CREATE TABLE cadre_metrics (trial_id INTEGER NOT NULL, report INTEGER NOT NULL, name_id INTEGER NOT NULL, "
    "value REAL, PRIMARY KEY (trial_id, report, name_id)) WITHOUT ROWID",
    "CREATE TABLE cadre_attempts (trial_id INTEGER NOT NULL, attempt INTEGER NOT NULL, num_workers INTEGER NOT NULL, "
    "launcher TEXT, backend TEXT, restored_report INTEGER NOT NULL, restored_checkpoint INTEGER NOT NULL, "
    "started TEXT NOT NULL, ended TEXT, cause TEXT, \"rank\" INTEGER, host TEXT, exit_code INTEGER, signal INTEGER, "
    "detail TEXT, PRIMARY KEY (trial_id, attempt)) WITHOUT ROWID",
    "CREATE TABLE cadre_checkpoints (checkpoint_id INTEGER PRIMARY KEY, trial_id INTEGER NOT NULL, "
    "attempt INTEGER NOT NULL, report INTEGER NOT NULL, step INTEGER NOT NULL, path TEXT NOT NULL, hash TEXT NOT NULL, "
    "nbytes INTEGER NOT NULL, score REAL, made TEXT NOT NULL)",
    "CREATE INDEX cadre_checkpoints_trial ON cadre_checkpoints (trial_id)",
    "CREATE TABLE cadre_events (experiment_id INTEGER NOT NULL, sequence INTEGER NOT NULL, trial_id INTEGER NOT NULL, "
    "time_us INTEGER NOT NULL, kind TEXT NOT NULL, value_json TEXT NOT NULL, "
    "PRIMARY KEY (experiment_id, sequence)) WITHOUT ROWID",
    "PRAGMA application_id = 0x43616472",
    TRACKING_SAME_VERSION,
};

static int run_all(tracking_store *store, const char *const *texts, size_t count)
{
    int status = CADRE_OK;
    for (size_t i = 0; status == CADRE_OK && i < count; i++) {
        int rc = sqlite3_exec(store->db, texts[i], NULL, NULL, NULL);
        if (rc != SQLITE_OK)
            status = tracking_failed(store, rc, "make the tables");
    }
    return status;
}

int tracking_schema_make(tracking_store *store)
{
    int status = tracking_exec(store, "BEGIN IMMEDIATE", NULL);
    if (status != CADRE_OK)
        return status;
    status = run_all(store, optuna_tables, sizeof optuna_tables / sizeof *optuna_tables);
    if (status == CADRE_OK)
        status = run_all(store, own_tables, sizeof own_tables / sizeof *own_tables);
    if (status == CADRE_OK)
        status = tracking_exec(store, "COMMIT", NULL);
    if (status != CADRE_OK)
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    return status;
}

/* A newer Optuna asked to "upgrade" the file may have changed its tables under ours. */
static int check_optuna_version(tracking_store *store)
{
    sqlite3_stmt *statement;
    char found[64] = "";
    bool row;
    int status = tracking_walk(store, "SELECT version_num FROM alembic_version", NULL, 0, &statement);
    if (status != CADRE_OK)
        return status;
    status = tracking_step(store, statement, &row);
    if (row)
        tracking_column_text(statement, 0, found, sizeof found);
    sqlite3_finalize(statement);
    if (status == CADRE_OK && strcmp(found, ALEMBIC_HEAD) != 0)
        status = base_error(CADRE_EVERSION,
                            "store %s: its Optuna tables are of version \"%s\", this Cadre writes " ALEMBIC_HEAD,
                            store->path, found);
    return status;
}

/* The check's own words for a page that it could not read end with SQLite's code: no memory, or a disk that fails, is no damage. */
static int status_of_check(const char *answer)
{
    const char *code = strstr(answer, "error code=");
    int rc = code ? atoi(code + strlen("error code=")) & 0xff : SQLITE_CORRUPT;
    return rc == SQLITE_NOMEM ? CADRE_ENOMEM : rc == SQLITE_IOERR ? CADRE_EIO : CADRE_ECORRUPT;
}

static int quick_check(tracking_store *store)
{
    sqlite3_stmt *statement;
    char answer[256] = "";
    bool row;
    int status = tracking_walk(store, "PRAGMA quick_check(1)", NULL, 0, &statement);
    if (status != CADRE_OK)
        return status;
    status = tracking_step(store, statement, &row);
    if (row)
        tracking_column_text(statement, 0, answer, sizeof answer);
    sqlite3_finalize(statement);
    if (status == CADRE_OK && strcmp(answer, "ok") != 0)
        status = base_error(status_of_check(answer), "store %s: %s", store->path, answer);
    return status;
}

int tracking_schema_ready(tracking_store *store)
{
    int64_t id = 0, version = 0, tables = 0;
    int status = tracking_exec(store, "PRAGMA application_id", &id);
    if (status == CADRE_OK)
        status = tracking_exec(store, "PRAGMA user_version", &version);
    if (status == CADRE_OK)
        status = tracking_exec(store, "SELECT count(*) FROM sqlite_master", &tables);
    if (status != CADRE_OK)
        return status;
    struct stat info;
    if (id == 0 && version == 0 && tables == 0 && stat(store->place, &info) == 0 && info.st_size == 0)
        return store->writer ? tracking_schema_make(store) : base_error(CADRE_ENOENT, "store %s is empty: nothing was recorded yet", store->path);
    if (id != APPLICATION_ID)
        return base_error(CADRE_ECORRUPT, "store %s is no Cadre store but a file of another program", store->path);
    if (version > VERSION)
        return base_error(CADRE_EVERSION,
                          "store %s is of version %lld, made by a newer Cadre; this one reads up to version %d",
                          store->path, (long long)version, VERSION);
    if (version != VERSION)
        return base_error(CADRE_ECORRUPT, "store %s has no version", store->path);
    status = check_optuna_version(store);
    return status == CADRE_OK && store->writer ? quick_check(store) : status;
}
