/*
 * Group commit. A write is first gathered in a journal in memory: which statement, with which arguments. The commit
 * runs the journal in one transaction and forgets it when SQLite has said that it is committed. So nothing depends on
 * what SQLite rolls back by itself when the disk is full or broken: whatever happened, the next commit runs the whole
 * journal again.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "tracking/internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    JOURNAL_LIMIT = 64 << 20, /* bytes gathered while commits fail; then writes are refused */
    RETRY_MS = 1000,          /* after a failed commit */
    LOG_PAGES = 400,          /* fold the log so often; readers of other programs would do it at 1,000 */
    LOG_LONG = 900,           /* then wait for readers a little, to start the log again */
    LOG_PATIENCE_MS = 50,
};

/* An entry: this, then per argument a word (kind in the low two bits, a text's bytes with its end above) and its value.
 */
struct entry {
    uint32_t nbytes; /* of all of it */
    uint16_t sql, count;
};

int tracking_check_writer(tracking_store *store)
{
    if (!store->writer)
        return base_error(CADRE_ESTATE, "store %s is open for reading only", store->path);
    if (store->pid != getpid())
        return base_error(CADRE_ESTATE, "store %s belongs to the process that opened it, not to its children",
                          store->path);
    return CADRE_OK;
}

static bool in_transaction(const tracking_store *store) { return !sqlite3_get_autocommit(store->db); }

/* By a statement prepared at the opening: when memory or disk fails, this at least must not. Where it does all the
 * same, nothing goes on before it has succeeded. */
static int roll_back(tracking_store *store)
{
    int rc = SQLITE_OK;
    if (in_transaction(store)) {
        sqlite3_stmt *statement = store->statements[TRACKING_SQL_ROLLBACK];
        rc = sqlite3_step(statement);
        sqlite3_reset(statement);
    }
    store->applied = 0;
    store->half_done = in_transaction(store);
    return store->half_done ? tracking_failed(store, rc, "roll back") : CADRE_OK;
}

/* Roll back after a failure and keep its words. */
static int give_up(tracking_store *store, int status)
{
    char words[BASE_ERROR_MAX];
    snprintf(words, sizeof words, "%s", cadre_error_message());
    roll_back(store);
    return base_error(status, "%s", words);
}

size_t tracking_journal_mark(const tracking_store *store) { return store->journal.length; }

void tracking_journal_back(tracking_store *store, size_t mark)
{
    /* What is in the open transaction cannot be taken back one by one: run the rest again in another one. */
    if (store->applied > mark)
        roll_back(store);
    store->journal.length = mark;
}

static unsigned char *pack(unsigned char *at, const void *bytes, size_t nbytes)
{
    memcpy(at, bytes, nbytes);
    return at + nbytes;
}

int tracking_put(tracking_store *store, tracking_sql sql, const tracking_arg *args, int count)
{
    struct entry entry = {.sql = (uint16_t)sql, .count = (uint16_t)count};
    size_t nbytes = sizeof entry;
    for (int i = 0; i < count; i++) {
        nbytes += sizeof(uint64_t);
        nbytes += args[i].kind != TRACKING_TEXT ? sizeof(int64_t) : args[i].as.text ? strlen(args[i].as.text) + 1 : 0;
    }
    if (nbytes > JOURNAL_LIMIT - store->journal.length)
        return base_error(CADRE_ENOSPC, "store %s: %zu bytes wait to be committed, no more are taken", store->path,
                          store->journal.length);
    if (base_buffer_reserve(&store->journal, nbytes) != CADRE_OK)
        return base_wrap(CADRE_ENOMEM, "store %s", store->path);
    if (store->journal.length == 0)
        store->gathered_ns = base_now_ns();
    entry.nbytes = (uint32_t)nbytes;
    unsigned char *at = pack(store->journal.data + store->journal.length, &entry, sizeof entry);
    for (int i = 0; i < count; i++) {
        const char *text = args[i].kind == TRACKING_TEXT ? args[i].as.text : NULL;
        uint64_t size = text ? strlen(text) + 1 : 0;
        uint64_t word = size << 2 | (uint64_t)args[i].kind;
        at = pack(at, &word, sizeof word);
        if (args[i].kind != TRACKING_TEXT)
            at = pack(at, &args[i].as, sizeof(int64_t));
        else if (text)
            at = pack(at, text, size);
    }
    store->journal.length += nbytes;
    return CADRE_OK;
}

/* Run the entry at `at`; the arguments' texts stay in the journal while SQLite works. */
static int run_entry(tracking_store *store, const unsigned char *at, uint32_t *nbytes)
{
    enum { MOST = 12 };
    tracking_arg args[MOST];
    struct entry entry;
    memcpy(&entry, at, sizeof entry);
    at += sizeof entry;
    for (int i = 0; i < entry.count && i < MOST; i++) {
        uint64_t word;
        memcpy(&word, at, sizeof word);
        at += sizeof word;
        args[i].kind = word & 3;
        if (args[i].kind == TRACKING_TEXT) {
            args[i].as.text = word >> 2 ? (const char *)at : NULL;
            at += word >> 2;
        } else {
            memcpy(&args[i].as, at, sizeof(int64_t));
            at += sizeof(int64_t);
        }
    }
    sqlite3_stmt *statement;
    int status = tracking_statement(store, (tracking_sql)entry.sql, &statement);
    if (status == CADRE_OK)
        status = tracking_bind(store, statement, args, entry.count);
    if (status != CADRE_OK)
        return status;
    int rc = sqlite3_step(statement);
    if (rc != SQLITE_DONE)
        status = tracking_failed(store, rc, "write");
    sqlite3_reset(statement);
    *nbytes = entry.nbytes;
    return status;
}

static int run_statement(tracking_store *store, tracking_sql sql, const char *doing)
{
    sqlite3_stmt *statement;
    int status = tracking_statement(store, sql, &statement);
    if (status != CADRE_OK)
        return status;
    int rc = sqlite3_step(statement);
    if (rc != SQLITE_DONE)
        status = tracking_failed(store, rc, doing);
    sqlite3_reset(statement);
    return status;
}

int tracking_apply(tracking_store *store)
{
    int status = store->half_done ? roll_back(store) : CADRE_OK;
    if (!in_transaction(store))
        store->applied = 0; /* an error may have made SQLite roll back by itself */
    if (status != CADRE_OK || store->applied == store->journal.length)
        return status;
    if (!in_transaction(store))
        status = run_statement(store, TRACKING_SQL_BEGIN, "begin");
    while (status == CADRE_OK && store->applied < store->journal.length) {
        uint32_t nbytes = 0;
        status = run_entry(store, store->journal.data + store->applied, &nbytes);
        store->applied += nbytes;
    }
    return status == CADRE_OK ? status : give_up(store, status);
}

/* The log may be folded while readers are in it; it starts again from its beginning only when none is. */
static void keep_log_short(tracking_store *store)
{
    if (store->log_pages < LOG_PAGES)
        store->log_next = LOG_PAGES;
    if (store->log_pages < store->log_next)
        return;
    store->log_next = store->log_pages + LOG_PAGES;
    int mode = SQLITE_CHECKPOINT_PASSIVE;
    int64_t now = base_now_ns();
    if (store->log_pages > LOG_LONG && now > store->log_patient_ns) {
        mode = SQLITE_CHECKPOINT_RESTART;
        store->log_patient_ns = now + (int64_t)1000 * 1000 * 1000;
        sqlite3_busy_timeout(store->db, LOG_PATIENCE_MS);
    }
    /* Busy readers or a full disk: the log just stays longer, nothing is lost, and it is tried again further on. */
    sqlite3_wal_checkpoint_v2(store->db, NULL, mode, NULL, NULL);
    if (mode != SQLITE_CHECKPOINT_PASSIVE)
        sqlite3_busy_timeout(store->db, TRACKING_BUSY_MS);
}

void tracking_fold_log(tracking_store *store)
{
    sqlite3_busy_timeout(store->db, LOG_PATIENCE_MS);
    sqlite3_wal_checkpoint_v2(store->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
}

/* How much of the disk's word a commit waits for. SQLite lets it be changed between transactions only. */
static int set_sync(tracking_store *store, bool full)
{
    if (store->full_sync == full)
        return CADRE_OK;
    int status = in_transaction(store) ? roll_back(store) : CADRE_OK;
    if (status == CADRE_OK)
        status = tracking_exec(store, full ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL", NULL);
    if (status == CADRE_OK)
        store->full_sync = full;
    return status;
}

static int commit_journal(tracking_store *store, bool durable)
{
    int status = set_sync(store, durable);
    if (status == CADRE_OK)
        status = tracking_apply(store);
    if (status == CADRE_OK && !in_transaction(store)) {
        /* Nothing is gathered, but commits before this one did not wait for the disk: a write of what is there does. */
        status = run_statement(store, TRACKING_SQL_BEGIN, "begin");
        if (status == CADRE_OK)
            status = tracking_exec(store, TRACKING_SAME_VERSION, NULL);
    }
    if (status == CADRE_OK)
        status = run_statement(store, TRACKING_SQL_COMMIT, "commit");
    return status == CADRE_OK ? status : give_up(store, status);
}

int tracking_commit(tracking_store *store, bool durable)
{
    int status = tracking_check_writer(store);
    if (status != CADRE_OK)
        return status;
    if (store->journal.length == 0 && !(durable && store->unsynced))
        return CADRE_OK;
    int fault = BASE_FAULT("commit");
    status = fault ? base_errno(fault > 0 ? fault : EIO, "store %s: commit", store->path) : commit_journal(store, durable);
    if (status != CADRE_OK) {
        store->retry_ns = base_now_ns() + (int64_t)RETRY_MS * 1000000;
        return status;
    }
    store->journal.length = 0;
    store->applied = 0;
    store->retry_ns = 0;
    store->unsynced = !durable;
    BASE_FAULT("committed"); /* it is, and nobody has been told */
    keep_log_short(store);
    return CADRE_OK;
}

int tracking_commit_due_ms(const tracking_store *store)
{
    if (store->journal.length == 0)
        return -1;
    int64_t due = store->retry_ns ? store->retry_ns : store->gathered_ns + (int64_t)TRACKING_GROUP_MS * 1000000;
    int64_t left = due - base_now_ns();
    return left <= 0 ? 0 : (int)((left + 999999) / 1000000);
}
