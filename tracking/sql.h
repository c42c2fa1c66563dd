/*
 * Every statement of the store, prepared once and kept. Writes come first: they are what the journal holds (commit.h),
 * so each must be a function of its arguments and the rows there are, to give the same again when it is replayed.
 */
#ifndef TRACKING_SQL_H
#define TRACKING_SQL_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

struct tracking_store;

#define TRACKING_COUNT_MAX (INT64_C(1) << 53)

/* Optuna's intermediate values of reports, from our own tables: used where they have to be made again. */
#define TRACKING_SQL_INTERMEDIATE                                                                                      \
    "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type) "             \
    "SELECT r.trial_id, r.step, CASE WHEN abs(m.value) < 9e999 THEN m.value END, "                                     \
    "CASE WHEN m.value IS NULL THEN 'NAN' WHEN m.value = 9e999 THEN 'INF_POS' WHEN m.value = -9e999 THEN 'INF_NEG' "   \
    "ELSE 'FINITE' END FROM cadre_reports r JOIN cadre_metrics m USING (trial_id, report) "

#define TRACKING_SQL_ON_STEP                                                                                           \
    "ON CONFLICT (trial_id, step) DO UPDATE SET intermediate_value = excluded.intermediate_value, "                    \
    "intermediate_value_type = excluded.intermediate_value_type"

#define TRACKING_SQL_TRIAL                                                                                             \
    "SELECT t.trial_id, t.study_id, t.number, t.state, v.value, v.value_type, "                                        \
    "(SELECT count(*) FROM cadre_attempts a WHERE a.trial_id = t.trial_id), "                                          \
    "(SELECT max(report) FROM cadre_reports r WHERE r.trial_id = t.trial_id), "                                        \
    "c.detail, c.reason, t.datetime_start, t.datetime_complete, "                                                      \
    "(SELECT CAST(value_json AS INTEGER) FROM trial_system_attributes s WHERE s.trial_id = t.trial_id AND "            \
    "s.\"key\" = 'failed_trial') FROM trials t "                                                                       \
    "LEFT JOIN trial_values v ON v.trial_id = t.trial_id AND v.objective = 0 "                                         \
    "LEFT JOIN cadre_trials c ON c.trial_id = t.trial_id "

#define TRACKING_SQL_CHECKPOINT                                                                                        \
    "SELECT checkpoint_id, trial_id, attempt, report, step, path, hash, nbytes, score FROM cadre_checkpoints "

/* X(name, text) */
#define TRACKING_SQL_MAP(X)                                                                                            \
    X(STUDY_ADD, "INSERT INTO studies (study_id, study_name) VALUES (?, ?)")                                           \
    X(DIRECTION_SET, "INSERT INTO study_directions (study_id, direction, objective) VALUES (?, ?, 0) "                 \
                     "ON CONFLICT (study_id, objective) DO UPDATE SET direction = excluded.direction")                 \
    X(STUDY_ATTRIBUTE_SET, "INSERT INTO study_system_attributes (study_id, \"key\", value_json) VALUES (?, ?, ?) "     \
                           "ON CONFLICT (study_id, \"key\") DO UPDATE SET value_json = excluded.value_json")           \
    X(EXPERIMENT_SET, "INSERT INTO cadre_experiments (experiment_id, \"key\", value_json) VALUES (?, ?, ?) "           \
                      "ON CONFLICT (experiment_id, \"key\") DO UPDATE SET value_json = excluded.value_json")           \
    X(EXPERIMENT_GET, "SELECT value_json FROM cadre_experiments WHERE experiment_id = ? AND \"key\" = ?")              \
    X(TRIAL_ADD, "INSERT INTO trials (trial_id, number, study_id, state, datetime_start) "                             \
                 "VALUES (?, ?, ?, 'RUNNING', ?)")                                                                     \
    X(TRIAL_BEGIN, "UPDATE trials SET state = 'RUNNING', datetime_start = ?2 WHERE trial_id = ?1")                     \
    X(PARAMS_DROP, "DELETE FROM trial_params WHERE trial_id = ?")                                                      \
    X(OWN_PARAMS_DROP, "DELETE FROM cadre_params WHERE trial_id = ?")                                                  \
    X(TRIAL_NOTE, "INSERT INTO cadre_trials (trial_id, detail) VALUES (?, ?) "                                         \
                  "ON CONFLICT (trial_id) DO UPDATE SET detail = excluded.detail")                                     \
    X(TRIAL_REASON, "INSERT INTO cadre_trials (trial_id, detail, reason) VALUES (?, ?, ?) "                            \
                    "ON CONFLICT (trial_id) DO UPDATE SET detail = excluded.detail, reason = excluded.reason")         \
    X(TRIAL_VALUE, "INSERT INTO trial_values (trial_id, objective, value, value_type) VALUES (?, 0, ?, ?)")            \
    X(TRIAL_END, "UPDATE trials SET state = ?2, datetime_complete = ?3 WHERE trial_id = ?1")                           \
    X(TRIAL_ATTRIBUTE_SET, "INSERT INTO trial_system_attributes (trial_id, \"key\", value_json) VALUES (?, ?, ?)")     \
    X(PARAM_ADD,                                                                                                       \
      "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) VALUES (?, ?, ?, ?)")           \
    X(OWN_PARAM_ADD, "INSERT INTO cadre_params (trial_id, position, name, value_json) VALUES (?, ?, ?, ?)")            \
    X(NAME_ADD, "INSERT INTO cadre_names (name_id, name) VALUES (?, ?)")                                               \
    X(REPORT_ADD, "INSERT INTO cadre_reports (trial_id, report, step, attempt, time_us) VALUES (?, ?, ?, ?, ?)")       \
    X(METRIC_ADD, "INSERT INTO cadre_metrics (trial_id, report, name_id, value) VALUES (?, ?, ?, ?) "                  \
                  "ON CONFLICT (trial_id, report, name_id) DO UPDATE SET value = excluded.value")                      \
    X(INTERMEDIATE_SET,                                                                                                \
      "INSERT INTO trial_intermediate_values "                                                                         \
      "(trial_id, step, intermediate_value, intermediate_value_type) VALUES (?, ?, ?, ?) " TRACKING_SQL_ON_STEP)       \
    X(INTERMEDIATE_DROP, "DELETE FROM trial_intermediate_values WHERE trial_id = ?1 AND step IN "                      \
                         "(SELECT step FROM cadre_reports WHERE trial_id = ?1 AND report BETWEEN ?2 AND ?3)")          \
    X(INTERMEDIATE_AGAIN, TRACKING_SQL_INTERMEDIATE                                                                    \
      "WHERE r.trial_id = ?1 AND m.name_id = ?4 AND r.report NOT BETWEEN ?2 AND ?3 AND r.step IN "                     \
      "(SELECT step FROM cadre_reports WHERE trial_id = ?1 AND report BETWEEN ?2 AND ?3) "                             \
      "ORDER BY r.report " TRACKING_SQL_ON_STEP)                                                                       \
    X(INTERMEDIATE_DROP_ALL, "DELETE FROM trial_intermediate_values WHERE trial_id IN "                                \
                             "(SELECT trial_id FROM trials WHERE study_id = ? AND state = 'RUNNING')")                 \
    X(INTERMEDIATE_ALL_AGAIN, TRACKING_SQL_INTERMEDIATE "WHERE m.name_id = ?2 AND r.trial_id IN "                      \
                                                        "(SELECT trial_id FROM trials WHERE study_id = ?1 AND state "  \
                                                        "= 'RUNNING') ORDER BY r.report " TRACKING_SQL_ON_STEP)        \
    X(METRICS_DROP, "DELETE FROM cadre_metrics WHERE trial_id = ? AND report BETWEEN ? AND ?")                         \
    X(REPORTS_DROP, "DELETE FROM cadre_reports WHERE trial_id = ? AND report BETWEEN ? AND ?")                         \
    X(ATTEMPT_ADD, "INSERT INTO cadre_attempts (trial_id, attempt, num_workers, launcher, backend, restored_report, "  \
                   "restored_checkpoint, started) VALUES (?, ?, ?, ?, ?, ?, ?, ?) "                                    \
                   "ON CONFLICT (trial_id, attempt) DO UPDATE SET num_workers = excluded.num_workers, "                \
                   "launcher = excluded.launcher, backend = excluded.backend, "                                        \
                   "restored_report = excluded.restored_report, restored_checkpoint = excluded.restored_checkpoint, "  \
                   "started = excluded.started, ended = NULL, cause = NULL, \"rank\" = NULL, host = NULL, "            \
                   "exit_code = NULL, signal = NULL, detail = NULL")                                                   \
    X(ATTEMPT_BACKEND, "UPDATE cadre_attempts SET backend = ?3 WHERE trial_id = ?1 AND attempt = ?2")                  \
    X(ATTEMPT_END, "UPDATE cadre_attempts SET ended = ?3, cause = ?4, \"rank\" = ?5, host = ?6, exit_code = ?7, "      \
                   "signal = ?8, detail = ?9 WHERE trial_id = ?1 AND attempt = ?2")                                    \
    X(CHECKPOINT_ADD, "INSERT INTO cadre_checkpoints (checkpoint_id, trial_id, attempt, report, step, path, hash, "    \
                      "nbytes, score, made) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")                                    \
    X(CHECKPOINT_DROP, "DELETE FROM cadre_checkpoints WHERE checkpoint_id = ?")                                        \
    X(EVENT_ADD, "INSERT INTO cadre_events (experiment_id, sequence, trial_id, time_us, kind, value_json) "            \
                 "VALUES (?, ?, ?, ?, ?, ?)")                                                                          \
    /* reading from here on */                                                                                         \
    X(BEGIN, "BEGIN IMMEDIATE")                                                                                        \
    X(COMMIT, "COMMIT")                                                                                                \
    X(ROLLBACK, "ROLLBACK")                                                                                            \
    X(NEXT_IDS, "SELECT (SELECT max(study_id) FROM studies), (SELECT max(trial_id) FROM trials), "                     \
                "(SELECT max(checkpoint_id) FROM cadre_checkpoints), (SELECT max(name_id) FROM cadre_names)")          \
    X(NAMES, "SELECT name_id, name FROM cadre_names")                                                                  \
    X(STUDY_FIND, "SELECT study_id FROM studies WHERE study_name = ?")                                                 \
    X(STUDY_KNOW, "SELECT (SELECT value_json FROM study_system_attributes s WHERE s.study_id = ?1 AND "                \
                  "s.\"key\" = 'study:metric_names'), (SELECT direction FROM study_directions d WHERE "                \
                  "d.study_id = ?1 AND d.objective = 0), (SELECT count(*) FROM trials t WHERE t.study_id = ?1), "      \
                  "(SELECT max(sequence) FROM cadre_events e WHERE e.experiment_id = ?1) "                             \
                  "FROM studies WHERE study_id = ?1")                                                                  \
    X(TRIAL_KNOW, "SELECT study_id, number, state, (SELECT max(report) FROM cadre_reports r WHERE "                    \
                  "r.trial_id = t.trial_id) FROM trials t WHERE trial_id = ?")                                         \
    X(RETRY_FIND, "SELECT \"key\", value_json FROM trial_system_attributes WHERE trial_id = ? AND \"key\" IN "         \
                  "('failed_trial', 'retry_history')")                                                                 \
    X(TRIAL_GET, TRACKING_SQL_TRIAL "WHERE t.trial_id = ?")                                                            \
    X(TRIAL_LAST, TRACKING_SQL_TRIAL "WHERE t.study_id = ? ORDER BY t.trial_id DESC LIMIT 1")                          \
    X(CHECKPOINT_LIST, TRACKING_SQL_CHECKPOINT "WHERE trial_id = ? ORDER BY checkpoint_id")

typedef enum tracking_sql {
#define TRACKING_SQL_ENUM(name, text) TRACKING_SQL_##name,
    TRACKING_SQL_MAP(TRACKING_SQL_ENUM)
#undef TRACKING_SQL_ENUM
        TRACKING_SQL_COUNT
} tracking_sql;

/* One argument of a statement. Text is borrowed; NULL text and a NaN are SQL's NULL. */
typedef struct tracking_arg {
    enum { TRACKING_INT, TRACKING_REAL, TRACKING_TEXT } kind;
    union {
        int64_t integer;
        double real;
        const char *text;
    } as;
} tracking_arg;

static inline tracking_arg tracking_int(int64_t value)
{
    return (tracking_arg){.kind = TRACKING_INT, .as.integer = value};
}

static inline tracking_arg tracking_real(double value)
{
    return (tracking_arg){.kind = TRACKING_REAL, .as.real = value};
}

static inline tracking_arg tracking_text(const char *value)
{
    return (tracking_arg){.kind = TRACKING_TEXT, .as.text = value};
}

#define TRACKING_ARGS(...)                                                                                             \
    (const tracking_arg[]){__VA_ARGS__}, (int)(sizeof((const tracking_arg[]){__VA_ARGS__}) / sizeof(tracking_arg))

/** The kept statement `sql`, reset and ready for arguments. */
int tracking_statement(struct tracking_store *store, tracking_sql sql, sqlite3_stmt **out);
int tracking_bind(struct tracking_store *store, sqlite3_stmt *statement, const tracking_arg *args, int count);
/** The next row: `*row` false at the end (and after an error); the statement is reset then. */
int tracking_step(struct tracking_store *store, sqlite3_stmt *statement, bool *row);

/**
 * Start reading with the kept statement `sql`, seeing what is gathered but not committed yet. Step until there is no
 * row, or sqlite3_reset() it.
 */
int tracking_query(struct tracking_store *store, tracking_sql sql, const tracking_arg *args, int count,
                   sqlite3_stmt **out);
/** The same with a statement of its own, which the caller finalizes: for walks whose callback may use the store again.
 */
int tracking_walk(struct tracking_store *store, const char *text, const tracking_arg *args, int count,
                  sqlite3_stmt **out);

/** A pragma or other text without arguments; `value` (may be NULL) gets the first column of its first row as an
 * integer. */
int tracking_exec(struct tracking_store *store, const char *text, int64_t *value);

/** The status that a SQLite result code stands for, with the message "store PATH: doing: ...". */
int tracking_failed(struct tracking_store *store, int rc, const char *doing);

/** A column that counts or numbers something. What nobody can have counted there (a store edited by hand) is -1 below and TRACKING_COUNT_MAX
 * above, so that there is always a next number. */
int64_t tracking_column_count(sqlite3_stmt *statement, int column);

/** Copy a text column into a field, "" for NULL. */
void tracking_column_text(sqlite3_stmt *statement, int column, char *field, size_t nbytes);

#endif
