/*
 * Saving: the copy and the writing are the saver's; this is what the ranks have to find out together, and what the record is told. A sharded
 * checkpoint has three stages: each rank writes its share; when a step or report finds that all are down, rank 0 writes index and record and gives the
 * directory its name; when that is through, it is recorded. (The others may be at their next share by then.) A rank that dies before leaves a directory of a temporary name, and the former checkpoint
 * as the last one.
 */
#include "session.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "message.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of each rank's bytes so many at a time: what a rank other than 0 needs of memory meanwhile is that, not what all have. */
enum { GATHER_NBYTES = 1 << 20 };

static int gather_pieces(cadre_session *session, const unsigned char *mine, unsigned char *piece, size_t nbytes, unsigned char *all)
{
    int status = CADRE_OK;
    for (size_t at = 0; status == CADRE_OK && at < nbytes; at += GATHER_NBYTES) {
        size_t part = nbytes - at < GATHER_NBYTES ? nbytes - at : GATHER_NBYTES, padded = (part + 7) / 8 * 8;
        status = session_gather(session, mine + at, piece, padded);
        for (int rank = 0; status == CADRE_OK && all && rank < session->world; rank++)
            memcpy(all + (size_t)rank * nbytes + at, piece + (size_t)rank * padded, part);
    }
    return status;
}

/* Every rank's local entries, in rank order, on rank 0; NULL on the others. */
static int gather_locals(cadre_session *session, cadre_state *state, void **all)
{
    size_t nbytes = state_local_nbytes(state), world = (size_t)session->world;
    size_t piece_nbytes = nbytes < GATHER_NBYTES ? (nbytes + 7) / 8 * 8 : GATHER_NBYTES;
    unsigned char *mine = base_calloc(1, (nbytes + 7) / 8 * 8), *piece = base_malloc(world * piece_nbytes);
    unsigned char *gathered = session->rank == 0 ? base_malloc(world * nbytes) : NULL;
    int status = mine && piece && (gathered || session->rank != 0) ? state_pack_local(state, mine) : CADRE_ENOMEM;
    status = session_agree(session, status, "saving the state");
    if (status == CADRE_OK)
        status = gather_pieces(session, mine, piece, nbytes, gathered);
    free(mine);
    free(piece);
    if (status != CADRE_OK) {
        free(gathered);
        return status;
    }
    *all = gathered;
    return CADRE_OK;
}

static json_t *checkpoint_body(const saver *saver)
{
    json_t *body = json_pack("{s:s, s:s, s:I}", "path", saver->name, "hash", saver->info.hash, "nbytes", (json_int_t)saver->info.nbytes);
    return body ? body : (base_error(CADRE_ENOMEM, "out of memory for a message"), NULL);
}

/* Rank 0: the disk is full; the controller removes an old checkpoint if it can spare one. The message stays what it was. */
static int ask_for_space(cadre_session *session, bool *freed)
{
    char words[BASE_ERROR_MAX];
    snprintf(words, sizeof words, "%s", cadre_error_message());
    json_t *message = message_new("full", session->attempt), *reply = NULL;
    int asked = message ? session->link->send(session->link, message) : CADRE_ENOMEM;
    if (asked == CADRE_OK)
        asked = trainer_link_await(session->link, "freed", INT64_MAX, &reply);
    *freed = asked == CADRE_OK && message_int(reply, "freed", 0);
    json_decref(message);
    json_decref(reply);
    return asked == CADRE_OK ? base_error(CADRE_OK, "%s", words) : asked;
}

static int save_in_space_freed(cadre_session *session, int status)
{
    while (status == CADRE_ENOSPC) {
        bool freed;
        int asked = ask_for_space(session, &freed);
        if (asked != CADRE_OK || !freed)
            return asked != CADRE_OK ? asked : status;
        status = saver_again(&session->saver);
    }
    return status;
}

/* ---- what is written behind ------------------------------------------------------------------------------------------------------- */

static int tell(cadre_session *session)
{
    const saver *saver = &session->saver;
    json_t *message = message_new("checkpoint", session->attempt), *body = checkpoint_body(saver);
    int status = CADRE_ENOMEM;
    if (message && body) {
        json_object_set(message, "checkpoint", body);
        message_set_int(message, "behind", 1);
        message_set_int(message, "report", saver->info.report);
        message_set_int(message, "step", session->saving_step);
        message_set_int(message, "stall_us", (int64_t)(1e6 * saver->stall_s));
        message_set_int(message, "write_us", (int64_t)(1e6 * saver->write_s));
        status = session->link->send(session->link, message);
    }
    json_decref(body);
    json_decref(message);
    return status;
}

/* A checkpoint less is no reason to lose the training since the last one; two in a row are: it would go on unprotected. */
static int bear(cadre_session *session, int status)
{
    char words[BASE_ERROR_MAX];
    snprintf(words, sizeof words, "%s", cadre_error_message());
    if (session->failed_saves++ > 0)
        return base_error(status, "%s; nor could the one before it be written", words);
    base_log(CADRE_LOG_WARN, "trainer", "%s; training goes on without it", words);
    json_t *message = message_new("unsaved", session->attempt);
    if (message) {
        message_set_text(message, "path", session->saver.name);
        message_set_text(message, "message", words);
        status = session->link->send(session->link, message);
    }
    json_decref(message);
    return message ? status : CADRE_ENOMEM;
}

/* Rank 0: of a whole checkpoint, or the commit of a sharded one. `ends`: a failure cannot be borne. */
static int finish_writing(cadre_session *session, bool wait, bool ends)
{
    bool finished;
    int status = saver_finish(&session->saver, wait, &finished);
    if (finished)
        status = save_in_space_freed(session, status);
    if (status != CADRE_OK && session->sharded)
        saver_drop(&session->saver);
    if (status != CADRE_OK)
        return ends ? status : bear(session, status);
    if (!finished)
        return CADRE_OK;
    session->failed_saves = 0;
    return tell(session);
}

/* ---- shares ------------------------------------------------------------------------------------------------------------------------- */

/* This rank's share is written, or will not be. */
static void note_share(cadre_session *session, int status)
{
    session->share.status = status;
    session->share.done = 1;
    session->share.nbytes = session->saver.file.nbytes;
    memcpy(session->share.hash, session->saver.file.hash, sizeof session->saver.file.hash);
}

/* Have all ranks said how their share went? `*failed` is the lowest whose is not written, or -1. */
static bool all_done(const session_share *all, int world, int *failed)
{
    bool done = true;
    *failed = -1;
    for (int rank = world - 1; rank >= 0; rank--) {
        done = done && all[rank].done;
        *failed = all[rank].status != CADRE_OK ? rank : *failed;
    }
    return done;
}

/* All ranks: the disk is full for one of them; is there room now? */
static int make_room(cadre_session *session, bool *freed)
{
    int64_t mine[2] = {CADRE_OK, 0}, *all = base_malloc((size_t)session->world * sizeof mine);
    *freed = false;
    if (session->rank == 0) {
        mine[0] = ask_for_space(session, freed);
        mine[1] = *freed;
    }
    char words[BASE_ERROR_MAX];
    snprintf(words, sizeof words, "%s", cadre_error_message());
    int status = all ? session_gather(session, mine, all, sizeof mine) : CADRE_ENOMEM;
    if (status == CADRE_OK && all[0] != CADRE_OK)
        status = base_error((int)all[0], "%s", session->rank == 0 ? words : "rank 0 lost the controller");
    else if (status == CADRE_OK)
        *freed = all[1] != 0;
    free(all);
    return status == CADRE_OK ? base_error(CADRE_OK, "%s", words) : status;
}

/* How all ranks' shares went; written again while room can be made. `*done`: there is an answer. */
static int gather_shares(cadre_session *session, session_share *all, bool *done, int *failed)
{
    for (;;) {
        bool freed = false;
        int status = session_gather(session, &session->share, all, sizeof *all);
        *done = status == CADRE_OK && all_done(all, session->world, failed);
        if (!*done || *failed < 0 || all[*failed].status != CADRE_ENOSPC)
            return status;
        status = make_room(session, &freed);
        if (status != CADRE_OK || !freed)
            return status;
        if (session->share.status == CADRE_ENOSPC)
            note_share(session, saver_again(&session->saver));
    }
}

/* Rank 0: all are down. */
static int commit_shares(cadre_session *session, const session_share *all)
{
    checkpoint_file *files = base_calloc((size_t)session->world, sizeof *files);
    if (!files)
        return CADRE_ENOMEM;
    for (int rank = 0; rank < session->world; rank++) {
        if (all[rank].layout != all[0].layout) {
            free(files);
            return base_error(CADRE_EMISMATCH, "rank %d saves another state than rank 0: a sharded checkpoint needs the same entries on all ranks", rank);
        }
        files[rank].nbytes = all[rank].nbytes;
        memcpy(files[rank].hash, all[rank].hash, sizeof files[rank].hash);
    }
    return save_in_space_freed(session, saver_commit(&session->saver, files, session->share_behind));
}

/* A share is not written: a message on this rank, where its own failed, or on all. */
static int give_up(cadre_session *session, const session_share *all, int failed, bool ends)
{
    int status = (int)all[failed].status;
    if (session->rank == 0)
        saver_drop(&session->saver);
    if (session->share.status != CADRE_OK)
        status = base_error((int)session->share.status, "%s", session->saver.message);
    else if (ends || session->rank == 0)
        base_error(status, "%s: rank %d could not write its share (%s)", session->saver.name, failed, cadre_status_text(status));
    if (ends && session->share.status == CADRE_OK)
        session->others_failure = status;
    if (ends)
        return status;
    if (session->rank == 0)
        return bear(session, status);
    if (session->share.status != CADRE_OK)
        base_log(CADRE_LOG_WARN, "trainer", "%s", cadre_error_message());
    return CADRE_OK;
}

/* Collective. Are all shares down? Then rank 0 has begun to make a checkpoint of them, or (not behind) has made it. */
static int take_shares(cadre_session *session, bool wait, bool ends)
{
    if (!session->sharing)
        return CADRE_OK;
    double begun = base_now(), before = session->saver.stall_s;
    bool finished = false, done = false;
    int failed = -1;
    int own = session->share.done ? CADRE_OK : saver_finish(&session->saver, wait, &finished);
    if (finished)
        note_share(session, own);
    session_share *all = base_malloc((size_t)session->world * sizeof *all);
    int status = all ? gather_shares(session, all, &done, &failed) : CADRE_ENOMEM;
    session->saver.stall_s = before + base_now() - begun;
    if (status == CADRE_OK && done) {
        session->sharing = false;
        if (failed >= 0)
            status = give_up(session, all, failed, ends);
        else if (session->rank == 0)
            status = commit_shares(session, all);
    }
    free(all);
    return status;
}

/* `status`: what is wrong already. The others learn of it with the rest: none is to wait for this rank in vain. */
static void save_share(cadre_session *session, cadre_state *state, const saver_order *order, int status)
{
    session->share = (session_share){.layout = state_layout_hash(state)};
    session->share_behind = order->behind;
    session->sharing = true;
    void *locals = status == CADRE_OK ? base_malloc(state_local_nbytes(state)) : NULL;
    if (status == CADRE_OK)
        status = locals ? state_pack_local(state, locals) : CADRE_ENOMEM;
    if (status == CADRE_OK) {
        status = saver_save(&session->saver, state, locals, order);
    } else {
        free(locals);
        saver_fail(&session->saver, status);
    }
    if (status != CADRE_OK || !order->behind)
        note_share(session, status);
}

/* ---- for steps and reports --------------------------------------------------------------------------------------------------------- */

static int finish(cadre_session *session, bool wait, bool ends)
{
    int status = take_shares(session, wait, ends);
    if (status == CADRE_OK && session->rank == 0 && !session->sharing)
        status = finish_writing(session, wait, ends);
    return status;
}

int session_finish_saving(cadre_session *session, bool wait) { return finish(session, wait, false); }

int session_end_saving(cadre_session *session) { return finish(session, true, true); }

/* Rank 0 writes all, or each rank its share; `*written` becomes how it went, where that is known, unless it is an error already. */
static int save(cadre_session *session, cadre_state *state, const saver_order *order, int *written)
{
    void *locals = NULL;
    if (order->shards) {
        save_share(session, state, order, *written);
        if (!order->behind)
            *written = take_shares(session, true, true);
        return CADRE_OK;
    }
    int status = gather_locals(session, state, &locals);
    if (status != CADRE_OK)
        return status;
    if (session->rank != 0 || *written != CADRE_OK) {
        free(locals);
        return CADRE_OK;
    }
    *written = saver_save(&session->saver, state, locals, order);
    if (!order->behind)
        *written = save_in_space_freed(session, *written);
    return CADRE_OK;
}

int session_save(cadre_session *session, cadre_state *state, json_t **body, bool *behind, int *written)
{
    int status = cadre_comm_synchronize(session->comm); /* what a GPU has not finished may yet fail */
    *body = NULL;
    if (status != CADRE_OK)
        return status;
    state_set_rows(state, session->rows);
    size_t nbytes = state_tensor_nbytes(state) + state_local_nbytes(state);
    *behind = session->write_behind > 0 || (session->write_behind == 0 && nbytes >= SAVER_BEHIND_NBYTES);
    saver_order order = {.directory = session->directory, .number = session->next_checkpoint++, .rank = session->rank,
                         .shards = session->sharded ? session->world : 0, .behind = *behind,
                         .info = {.report = session->report, .attempt = session->attempt, .world = session->world}};
    *written = session_finish_saving(session, true); /* one at a time */
    if (*written != CADRE_OK && session->rank != 0)
        return *written;
    status = save(session, state, &order, written);
    if (status != CADRE_OK || session->rank != 0)
        return status;
    session->saving_step = session->step;
    if (*written == CADRE_OK && !*behind && !(*body = checkpoint_body(&session->saver)))
        *written = CADRE_ENOMEM;
    return CADRE_OK;
}
