#include "session.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/mem.h"
#include "base/timeline.h"
#include "collectives/progress.h"
#include "message.h"
#include "trainer/state/checkpoint.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How often a worker that steps says that it is alive (where hang_timeout is short, thrice in it), and how often rank 0 feeds the progress line. */
static const double BEAT_S = 1.0, PROGRESS_S = 0.1;

volatile sig_atomic_t session_leave_signal;

int cadre_session_rank(const cadre_session *session) { return session->rank; }
int cadre_session_world(const cadre_session *session) { return session->world; }
int cadre_session_logical_world(const cadre_session *session) { return session->world * session->rows; }
int cadre_session_logical_count(const cadre_session *session) { return session->rows; }
int cadre_session_logical_rank(const cadre_session *session, int index) { return session->rank * session->rows + index; }
int cadre_session_attempt(const cadre_session *session) { return session->attempt; }
int cadre_session_threads(const cadre_session *session) { return session->threads; }
cadre_comm *cadre_session_comm(cadre_session *session) { return session->comm; }
const char *cadre_session_directory(const cadre_session *session) { return session->directory; }

/* Collectives between two steps or reports, as of a long validation, say that the worker is alive. */
static void on_collective(void *user)
{
    cadre_session *session = user;
    double now = base_now();
    if (now - session->last_beat < session->beat_s || now - session->last_alive < session->beat_s || !pthread_equal(pthread_self(), session->thread))
        return;
    session->last_alive = now;
    json_t *message = message_new("alive", session->attempt);
    if (message)
        (void)session->link->send(session->link, message); /* a lost controller is noticed by the next step or report */
    json_decref(message);
}

int session_init(cadre_session *session, const json_t *start, int rank, trainer_link *link, cadre_comm *comm)
{
    int64_t leave_ms = message_int(start, "leave_ms", -1);
    *session = (cadre_session){
        .rank = rank,
        .world = (int)message_int(start, "world", 1),
        .attempt = message_attempt(start),
        .threads = (int)message_int(start, "threads", 1),
        .rows = (int)message_int(start, "rows", 1),
        .link = link,
        .comm = comm,
        .report = message_int(start, "report", 0),
        .step = message_int(start, "step", 0),
        .every_steps = message_int(start, "every", 0),
        .write_behind = (int)message_int(start, "behind", 0),
        .sharded = message_int(start, "sharded", 0) != 0,
        .sync = message_int(start, "sync", 0) != 0,
        .next_checkpoint = message_int(start, "next", 1),
        .directory = base_strdup(message_string(start, "directory", ".")),
        .leave_at = leave_ms >= 0 ? base_now() + 1e-3 * (double)leave_ms : 0,
        .beat_s = fmin(BEAT_S, 1e-3 * (double)message_int(start, "hang_ms", INT64_MAX) / 3),
        .thread = pthread_self(),
    };
    const char *restore = message_string(start, "restore", NULL);
    session->restore = restore ? base_strdup(restore) : NULL;
    if (!session->directory || (restore && !session->restore)) {
        session_done(session);
        return CADRE_ENOMEM;
    }
    cadre_comm_set_logical(comm, message_int(start, "logical", 0) ? session->rows : 0);
    collectives_on_progress(comm, on_collective, session);
    return CADRE_OK;
}

void session_done(cadre_session *session)
{
    collectives_on_progress(session->comm, NULL, NULL);
    saver_close(&session->saver);
    free(session->directory);
    free(session->restore);
    session->directory = session->restore = NULL;
}

int session_poll(cadre_session *session)
{
    char words[BASE_ERROR_MAX];
    snprintf(words, sizeof words, "%s", cadre_error_message());
    for (;;) {
        json_t *message;
        int status = session->link->receive(session->link, 0, &message);
        if (status == CADRE_ETIMEDOUT) {
            base_error(CADRE_OK, "%s", words); /* that nothing has come is no failure to speak of */
            return CADRE_OK;
        }
        if (status != CADRE_OK)
            return base_wrap(status, "the controller is gone");
        if (message_is(message, "stop"))
            session->stop_asked = true;
        json_decref(message);
    }
}

int session_gather(cadre_session *session, const void *mine, void *all, size_t nbytes)
{
    if (session->world == 1) {
        memcpy(all, mine, nbytes);
        return CADRE_OK;
    }
    return cadre_all_gather(session->comm, mine, all, nbytes / 8, CADRE_INT64);
}

int session_agree(cadre_session *session, int status, const char *what)
{
    int64_t mine = status, *all = base_malloc((size_t)session->world * sizeof *all);
    char own[512];
    snprintf(own, sizeof own, "%s", status < 0 ? cadre_error_message() : "");
    if (!all)
        return CADRE_ENOMEM;
    int agreed = session_gather(session, &mine, all, sizeof mine);
    int failed = -1;
    for (int rank = session->world - 1; agreed >= 0 && rank >= 0; rank--) {
        failed = all[rank] < 0 ? rank : failed;
        agreed = all[rank] == CADRE_STOP ? CADRE_STOP : agreed;
    }
    int failure = failed >= 0 ? (int)all[failed] : CADRE_OK;
    free(all);
    if (agreed >= 0 && status < 0)
        return base_error(status, "%s", own);
    if (agreed >= 0 && failed >= 0)
        session->others_failure = failure;
    if (agreed >= 0 && failed >= 0)
        return base_error(failure, "%s failed on rank %d (%s)", what, failed, cadre_status_text(failure));
    return agreed;
}

int cadre_session_restore(cadre_session *session, cadre_state *state)
{
    if (!session || !state)
        return base_error(CADRE_EINVAL, "cadre_session_restore: session or state is NULL");
    if (!session->restore)
        return CADRE_OK;
    cadre_checkpoint_info info;
    state_set_rows(state, session->rows);
    int status = checkpoint_restore(session->restore, state, session->rank, session->world, &info);
    status = session_agree(session, status, "restoring the checkpoint");
    if (status != CADRE_OK)
        return status;
    free(session->restore);
    session->restore = NULL;
    if (info.world != session->world * session->rows && session->on_resize)
        status = session_agree(session, session->on_resize(session, info.world, session->world, session->user), "on_resize");
    return status;
}

/* Rank 0 sends `message`; with `answered`, waits for what the record says to it, which all ranks then know: CADRE_OK, CADRE_STOP or a failure. */
static int record(cadre_session *session, int status, json_t *message, bool answered)
{
    if (session->rank == 0 && status == CADRE_OK) {
        status = message ? session->link->send(session->link, message) : base_error(CADRE_ENOMEM, "out of memory for a report");
        json_t *reply = NULL;
        if (status == CADRE_OK && answered)
            status = trainer_link_await(session->link, "ack", INT64_MAX, &reply);
        if (reply) {
            status = (int)message_int(reply, "status", CADRE_EPROTO);
            if (status != CADRE_OK)
                base_error(status, "%s", message_string(reply, "message", "the record failed"));
            else if (message_int(reply, "stop", 0))
                status = CADRE_STOP;
            json_decref(reply);
        }
    }
    json_decref(message);
    return answered ? session_agree(session, status, "the record") : status;
}

static int beat(cadre_session *session)
{
    double now = base_now();
    if (now - session->last_beat < session->beat_s)
        return CADRE_OK;
    session->last_beat = now;
    json_t *message = message_new("beat", session->attempt);
    if (!message)
        return CADRE_ENOMEM;
    message_set_int(message, "step", session->steps);
    int status = session->link->send(session->link, message);
    json_decref(message);
    return status;
}

/* ---- reports ---------------------------------------------------------------------------------------------------------------- */

/* Names go into JSON and tables: UTF-8, and nothing that breaks a line. */
static bool is_name(const char *name)
{
    json_t *text = json_string(name);
    bool fine = text != NULL;
    for (const char *at = name; *at; at++)
        fine = fine && (unsigned char)*at >= 0x20 && *at != 0x7f;
    json_decref(text);
    return fine;
}

static int check_metrics(const cadre_metric *metrics, int *count, uint64_t *names_hash)
{
    *count = 0;
    *names_hash = 1469598103934665603u; /* FNV-1a over the names and how they are reduced */
    if (!metrics || !metrics[0].name)
        return base_error(CADRE_EINVAL, "cadre_report: a report without metrics: name at least one");
    for (int i = 0; metrics[i].name; i++) {
        size_t length = strlen(metrics[i].name);
        if (i == CADRE_MAX_METRICS)
            return base_error(CADRE_EINVAL, "cadre_report: more than %d metrics", CADRE_MAX_METRICS);
        if (length == 0 || length > 100)
            return base_error(CADRE_EINVAL, "cadre_report: metric %d: its name has %zu bytes, 1 to 100 are possible", i, length);
        if (!is_name(metrics[i].name))
            return base_error(CADRE_EINVAL, "cadre_report: metric %d: its name is not plain UTF-8 text", i);
        if (metrics[i].reduce < CADRE_REDUCE_NONE || metrics[i].reduce > CADRE_REDUCE_RATIO)
            return base_error(CADRE_EINVAL, "cadre_report: metric \"%s\": unknown reduction %d", metrics[i].name, (int)metrics[i].reduce);
        for (int k = 0; k < i; k++)
            if (strcmp(metrics[k].name, metrics[i].name) == 0)
                return base_error(CADRE_EINVAL, "cadre_report: metric \"%s\" is there twice", metrics[i].name);
        for (const char *at = metrics[i].name; *at; at++)
            *names_hash = (*names_hash ^ (unsigned char)*at) * 1099511628211u;
        *names_hash = (*names_hash ^ (256u + (unsigned)metrics[i].reduce)) * 1099511628211u;
        *count = i + 1;
    }
    return CADRE_OK;
}

/* What every rank says about the report it is about to make; they must be alike. */
struct report_card {
    int64_t status, report, step;
    uint64_t names, layout; /* hashes; layout 0: no state */
    int64_t wish;           /* this rank would like to leave */
};

static int compare_cards(const struct report_card *cards, int world, bool *leave)
{
    *leave = false;
    for (int rank = 0; rank < world; rank++) {
        const char *what = cards[rank].report != cards[0].report ? "is at another report"
                           : cards[rank].step != cards[0].step   ? "gives another step"
                           : cards[rank].names != cards[0].names ? "reports other metrics"
                           : cards[rank].layout != cards[0].layout ? "saves another state"
                                                                   : NULL;
        if (cards[rank].status != CADRE_OK)
            return base_error((int)cards[rank].status, "cadre_report failed on rank %d (%s)", rank, cadre_status_text((int)cards[rank].status));
        if (what)
            return base_error(CADRE_EMISMATCH, "cadre_report: rank %d %s than rank 0: every rank must report the same", rank, what);
        *leave |= cards[rank].wish != 0;
    }
    return CADRE_OK;
}

static int agree_report(cadre_session *session, const struct report_card *card, bool *leave)
{
    struct report_card *cards = base_malloc((size_t)session->world * sizeof *cards);
    char own[512];
    snprintf(own, sizeof own, "%s", card->status ? cadre_error_message() : "");
    int status = cards ? session_gather(session, card, cards, sizeof *card) : CADRE_ENOMEM;
    if (status == CADRE_OK)
        status = card->status != CADRE_OK ? base_error((int)card->status, "%s", own) : compare_cards(cards, session->world, leave);
    if (status != CADRE_OK && card->status == CADRE_OK && status != CADRE_EMISMATCH)
        session->others_failure = status;
    free(cards);
    return status;
}

static double reduce_value(const double (*pairs)[2], int world, int stride, int index, cadre_reduce reduce)
{
    double value = pairs[index][0], weight = pairs[index][1];
    if (reduce == CADRE_REDUCE_NONE)
        return value;
    for (int rank = 1; rank < world; rank++) {
        double other = pairs[rank * stride + index][0];
        if (reduce == CADRE_REDUCE_MIN || reduce == CADRE_REDUCE_MAX) {
            bool takes = reduce == CADRE_REDUCE_MIN ? other < value : other > value;
            value = takes || isnan(other) ? other : value;
        } else {
            value += other;
        }
        weight += pairs[rank * stride + index][1];
    }
    return reduce == CADRE_REDUCE_MEAN ? value / world : reduce == CADRE_REDUCE_RATIO ? value / weight : value;
}

/* The values to record: rank 0's, or reduced over all ranks in rank order. */
static int reduce_metrics(cadre_session *session, const cadre_metric *metrics, int count, double *values)
{
    bool reduced = false;
    for (int i = 0; i < count; i++)
        reduced |= metrics[i].reduce != CADRE_REDUCE_NONE;
    int world = reduced ? session->world : 1;
    double mine[CADRE_MAX_METRICS][2];
    for (int i = 0; i < count; i++) {
        mine[i][0] = metrics[i].value;
        mine[i][1] = metrics[i].weight;
    }
    double(*all)[2] = base_malloc((size_t)(world * count) * sizeof *all);
    int status = all ? CADRE_OK : CADRE_ENOMEM;
    if (status == CADRE_OK && world > 1)
        status = session_gather(session, mine, all, (size_t)count * sizeof *mine);
    else if (status == CADRE_OK)
        memcpy(all, mine, (size_t)count * sizeof *mine);
    for (int i = 0; status == CADRE_OK && i < count; i++)
        values[i] = reduce_value((const double(*)[2])all, world, count, i, metrics[i].reduce);
    free(all);
    return status;
}

static json_t *report_message(cadre_session *session, const cadre_metric *metrics, const double *values, int count, json_t *body)
{
    json_t *message = message_new("report", session->attempt);
    json_t *list = json_array();
    for (int i = 0; i < count; i++) {
        json_t *pair = json_array();
        json_t *name = json_string(metrics[i].name);
        json_array_append_new(pair, name ? name : json_string("?"));
        json_array_append_new(pair, message_double(values[i]));
        json_array_append_new(list, pair);
    }
    message_set_int(message, "report", session->report);
    message_set_int(message, "step", session->step);
    json_object_set_new(message, "metrics", list);
    if (body)
        json_object_set_new(message, "checkpoint", body);
    return message;
}

static bool wants_to_leave(const cadre_session *session)
{
    return session->stop_asked || session_leave_signal || (session->leave_at > 0 && base_now() >= session->leave_at);
}

static int report_at(cadre_session *session, int64_t step, const cadre_metric *metrics, cadre_state *state)
{
    if (!session)
        return base_error(CADRE_EINVAL, "cadre_report: session is NULL");
    int count = 0;
    struct report_card card = {.report = session->report + 1, .step = step};
    BASE_FAULT("report");
    int polled = session_poll(session);
    int saved = session_finish_saving(session, false); /* in any case: the others may count on this rank in it */
    if (polled == CADRE_OK)
        polled = saved;
    if (polled == CADRE_OK)
        polled = cadre_comm_synchronize(session->comm); /* the metrics may come from what a GPU has not finished */
    card.status = polled != CADRE_OK ? polled : check_metrics(metrics, &count, &card.names);
    if (card.status == CADRE_OK && session->restore)
        card.status = base_error(CADRE_ESTATE, "cadre_report: this attempt goes on from %s: call cadre_session_restore first", session->restore);
    if (card.status == CADRE_OK && step <= session->step)
        card.status = base_error(CADRE_EINVAL, "cadre_report: step %lld is not after step %lld", (long long)step, (long long)session->step);
    card.layout = state ? state_layout_hash(state) | 1 : 0;
    card.wish = wants_to_leave(session);
    bool leave = false;
    int status = agree_report(session, &card, &leave);
    double values[CADRE_MAX_METRICS];
    if (status == CADRE_OK)
        status = reduce_metrics(session, metrics, count, values);
    if (status != CADRE_OK)
        return status;
    session->report++;
    session->step = step;
    json_t *body = NULL;
    bool behind = false;
    if (session->rank == 0)
        session->last_beat = base_now(); /* the report is one */
    else
        (void)beat(session); /* a lost controller is noticed by the next call */
    if (state) {
        int written;
        saved = session_save(session, state, &body, &behind, &written);
        if (saved != CADRE_OK)
            return saved;
        status = written;
    }
    json_t *message = session->rank == 0 && status == CADRE_OK ? report_message(session, metrics, values, count, body) : NULL;
    if (message && behind)
        message_set_int(message, "saving", 1);
    status = record(session, status, message, (state && !behind) || session->sync);
    BASE_FAULT("reported");
    if (status < 0)
        return status;
    session->agreed_to_stop |= leave || status == CADRE_STOP;
    return session->agreed_to_stop ? CADRE_STOP : CADRE_OK;
}

int cadre_report_at(cadre_session *session, int64_t step, const cadre_metric *metrics, cadre_state *state)
{
    int64_t begun = cadre_timeline_begin();
    int status = report_at(session, step, metrics, state);
    if (begun) {
        cadre_timeline_end(begun, "report", "report");
        base_timeline_flush();
    }
    return status;
}

int cadre_report(cadre_session *session, const cadre_metric *metrics, cadre_state *state)
{
    return cadre_report_at(session, session ? session->step + 1 : 1, metrics, state);
}

/* ---- steps ------------------------------------------------------------------------------------------------------------------- */

/* Does any rank wish to leave? Answered by the last gradient sync if one went by, else asked now. */
static int agree_to_leave(cadre_session *session, bool *leave)
{
    bool wish = wants_to_leave(session);
    *leave = wish;
    if (session->world == 1)
        return CADRE_OK;
    int agreed = cadre_comm_take_agreed(session->comm);
    cadre_comm_set_wish(session->comm, wish); /* rides on the next sync */
    if (agreed >= 0) {
        *leave = agreed > 0;
        return CADRE_OK;
    }
    int32_t any = wish;
    int status = cadre_all_reduce(session->comm, &any, 1, CADRE_INT32, CADRE_MAX);
    *leave = any != 0;
    return status;
}

int cadre_step(cadre_session *session, cadre_state *state)
{
    if (!session)
        return base_error(CADRE_EINVAL, "cadre_step: session is NULL");
    if (session->restore)
        return base_error(CADRE_ESTATE, "cadre_step: this attempt goes on from %s: call cadre_session_restore first", session->restore);
    session->steps++;
    BASE_FAULT("step");
    bool leave = false;
    int status = session_poll(session);
    if (status == CADRE_OK)
        status = beat(session);
    if (status == CADRE_OK)
        status = session_finish_saving(session, false);
    if (status == CADRE_OK)
        status = agree_to_leave(session, &leave);
    if (status != CADRE_OK)
        return status;
    int64_t count = state && state->step > 0 ? state->step : session->steps; /* a program that does not count its steps */
    bool due = session->every_steps > 0 && count % session->every_steps == 0;
    bool last = leave && !session->agreed_to_stop; /* one that steps on nevertheless is not saved again and again */
    if (state && (last || due)) {
        json_t *body = NULL, *message = NULL;
        bool behind;
        int written;
        status = session_save(session, state, &body, &behind, &written);
        if (status != CADRE_OK)
            return status;
        if (behind && written != CADRE_OK)
            return written;
        if (body && (message = message_new("checkpoint", session->attempt)))
            json_object_set_new(message, "checkpoint", body);
        else
            json_decref(body);
        status = behind ? CADRE_OK : record(session, written, message, true);
        if (status < 0)
            return status;
        leave |= status == CADRE_STOP;
    }
    session->agreed_to_stop |= leave;
    return session->agreed_to_stop ? CADRE_STOP : CADRE_OK;
}

void cadre_session_progress(cadre_session *session, const cadre_progress *progress)
{
    double now = base_now();
    if (!session || !progress || session->rank != 0 || now - session->last_progress < PROGRESS_S)
        return;
    session->last_progress = now;
    json_t *message = message_new("progress", session->attempt);
    json_t *list = json_array();
    if (message && list) {
        for (const cadre_metric *metric = progress->metrics; metric && metric->name; metric++) {
            json_t *pair = json_pack("[s, o]", metric->name, message_double(metric->value));
            if (pair)
                json_array_append_new(list, pair);
        }
        json_object_set(message, "metrics", list);
        message_set_int(message, "epoch", progress->epoch);
        message_set_int(message, "epochs", progress->epochs);
        message_set_int(message, "step", progress->step);
        message_set_int(message, "steps", progress->steps);
        message_set_int(message, "samples", progress->samples);
        if (progress->unit)
            message_set_text(message, "unit", progress->unit);
        (void)session->link->send(session->link, message); /* a lost controller is noticed by the next step */
    }
    json_decref(list);
    json_decref(message);
}
