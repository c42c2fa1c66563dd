/*
 * Attached: the program was started by mpirun or srun. Every rank is a worker; rank 0 also records, by direct calls. Restarts are the batch
 * system's: an unfinished run of that name goes on when the program is started again.
 */
#include "fit.h"

#include "base/error.h"
#include "base/mem.h"
#include "collectives/mpi_oob.h"
#include "group.h"
#include "message.h"
#include "run_inside.h"
#include "worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CARD_BYTES = 32768, SETUP_TIMEOUT_S = 300 };

/* What rank 0 tells the others before training: the start message, or why there is none. */
struct start_card {
    int64_t status;
    char text[CARD_BYTES - sizeof(int64_t)];
};

static int share_start(const cadre_oob *oob, int status, const json_t *start, json_t **out)
{
    struct start_card *mine = base_calloc(1, sizeof *mine);
    struct start_card *all = base_calloc((size_t)oob->world, sizeof *all);
    char *text = start ? message_text(start) : NULL;
    int result = mine && all ? CADRE_OK : CADRE_ENOMEM;
    if (result == CADRE_OK) {
        mine->status = status;
        snprintf(mine->text, sizeof mine->text, "%s", status == CADRE_OK && text ? text : cadre_error_message());
        if (text && strlen(text) >= sizeof mine->text)
            mine->status = base_error(CADRE_EINVAL, "the config is too large to share: %zu bytes", strlen(text));
        if (oob->world > 1)
            result = oob->all_gather(oob->user, mine, all, sizeof *mine, SETUP_TIMEOUT_S);
        else
            *all = *mine;
    }
    if (result == CADRE_OK && all[0].status != CADRE_OK)
        result = base_error((int)all[0].status, "%s", all[0].text);
    if (result == CADRE_OK)
        result = message_parse(all[0].text, strlen(all[0].text), out);
    free(text);
    free(all);
    free(mine);
    return result;
}

static int check_world(const cadre_trainer *trainer, int world)
{
    if (trainer->scaling.logical_workers && !fit_logical(trainer->scaling.logical_workers, world))
        return base_error(CADRE_EINVAL, "scaling.logical_workers is %d, which %d ranks cannot share evenly in powers of two", trainer->scaling.logical_workers, world);
    int wanted = trainer->scaling.num_workers;
    int least = trainer->scaling.min_workers;
    if (least && world >= least && world <= wanted)
        return CADRE_OK;
    if (least)
        return base_error(CADRE_EINVAL, "scaling has %d to %d workers, but the program was started with %d ranks: start %d to %d", least, wanted, world, least, wanted);
    if (wanted && wanted != world)
        return base_error(CADRE_EINVAL, "scaling.num_workers is %d, but the program was started with %d ranks: start %d, or leave it 0", wanted, world, wanted);
    return CADRE_OK;
}

static int train_attached(trainer_run *run, const cadre_trainer *trainer, const cadre_oob *oob, const json_t *start, bool *second_hand)
{
    trainer_link link;
    int status = oob->rank == 0 ? fit_link_direct(&link, run) : trainer_link_null(&link);
    if (status != CADRE_OK)
        return status;
    link.attempt = message_attempt(start);
    status = worker_train(trainer, start, oob, &link);
    *second_hand = link.second_hand || group_second_hand(status);
    trainer_link_close(&link);
    return status;
}

/* All that rank 0 knows: where it failed because another rank did, its words say so and none in particular is blamed. */
static int record_end(trainer_run *run, int status, bool second_hand)
{
    char message[600], host[64] = "";
    gethostname(host, sizeof host - 1);
    snprintf(message, sizeof message, "%s", status < 0 ? cadre_error_message() : "");
    run_ending ending = {status < 0 ? "failed" : status == CADRE_STOP ? "stopped" : "finished", status < 0 && !second_hand ? 0 : -1,
                         status < 0 && !second_hand ? host : "", status < 0 && !second_hand, 0, message};
    int allowed = run->trainer->failure.max_failures;
    int recorded = status < 0 ? run_record_attempt(run) : CADRE_OK;
    if (recorded == CADRE_OK)
        recorded = run_attempt_end(run, &ending);
    if (recorded == CADRE_OK && status < 0 && run->refused == CADRE_OK && (allowed < 0 || run->attempt <= allowed)) { /* started again, it goes on */
        recorded = tracking_trial_note(run->store, run->trial, "interrupted");
        if (recorded == CADRE_OK)
            recorded = tracking_commit(run->store, true);
    } else if (recorded == CADRE_OK) {
        recorded = run_finish(run, status, message);
    }
    if (status < 0)
        return base_error(status, "%s", message);
    return recorded;
}

int fit_attached(const cadre_trainer *trainer, double begun, cadre_result *result)
{
    cadre_oob oob;
    trainer_run run = {0};
    json_t *own_start = NULL, *start = NULL;
    worker_signals kept;
    worker_borrow_signals(&kept, false); /* mpirun passes on SIGUSR1 at any time */
    int status = collectives_mpi_join(&oob);
    if (status != CADRE_OK) {
        worker_give_back_signals(&kept);
        return base_wrap(status, "join the ranks that this program was started with");
    }
    int opened = check_world(trainer, oob.world);
    if (oob.rank == 0 && opened == CADRE_OK) {
        opened = run_open(&run, trainer, begun, true);
        run.progress.live = false; /* mpirun gives its ranks a terminal of its own, whatever reads it */
        if (opened == CADRE_OK)
            fit_drop_timeline(trainer->run.timeline);
        if (opened == CADRE_OK)
            opened = run_attempt_begin(&run, oob.world, "attached");
        if (opened == CADRE_OK && !(own_start = run_start_message(&run, fit_threads(trainer, oob.world))))
            opened = CADRE_ENOMEM;
    }
    status = share_start(&oob, opened, own_start, &start);
    bool began = status == CADRE_OK; /* if not, every rank knows it and can leave in good order */
    if (began) {
        bool second_hand = false;
        status = train_attached(&run, trainer, &oob, start, &second_hand);
        if (oob.rank == 0)
            status = record_end(&run, status, second_hand);
    }
    if (result)
        *result = run.result;
    char message[BASE_ERROR_MAX];
    snprintf(message, sizeof message, "%s", cadre_error_message());
    if (oob.rank == 0)
        run_close(&run);
    json_decref(own_start);
    json_decref(start);
    if (status < 0 && began) { /* MPI's way to end a job ends this process, too: nobody else would say why */
        fprintf(stderr, "cadre: rank %d: %s\n", oob.rank, message);
        fflush(NULL);
    }
    collectives_mpi_leave(status >= 0 || !began);
    worker_give_back_signals(&kept);
    return status < 0 ? base_error(status, "%s", message) : CADRE_OK;
}
