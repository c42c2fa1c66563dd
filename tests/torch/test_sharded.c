/*
 * A sharded optimiser's state goes on with any number of ranks: every element has what it had, whether each rank wrote
 * its share or rank 0 all. test_sharded FOLDER
 */
#include "ddp_support.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STEPS = 3, MOST = 64 << 10 /* bytes of one optimiser's state over all ranks */ };

struct chain {
    const char *name;
    int adam, sharded; /* the optimiser; whether each rank writes its share of a checkpoint */
    const char *folder;
    bool elastic; /* the last rank dies in the second round, and the others go on */
};

static int make_optim(ct_module *module, int adam, ct_optim **optim)
{
    ct_status made =
        adam ? ct_adamw_new(module, &(ct_adam_options){.lr = 0.01}, optim)
             : ct_sgd_new(module, &(ct_sgd_options){.lr = 0.1, .momentum = 0.9, .weight_decay = 0.01}, optim);
    return made == CT_OK ? CADRE_OK : cadre_fail(CADRE_ETORCH, "%s", ct_error_message());
}

/* What the ranks have together, one array after the other: its length and its bytes up to the last that is not 0. What
 * the ranks have alike comes once. */
static int gather_state(cadre_session *session, const ct_optim *optim, unsigned char *all, size_t *used)
{
    int status = CADRE_OK;
    size_t world = (size_t)cadre_session_world(session);
    *used = 0;
    for (size_t i = 0; i < ct_optim_state_count(optim); i++) {
        const char *name;
        ct_tensor *tensor;
        TRY_TORCH(ct_optim_state_at(optim, i, &name, &tensor));
        size_t nbytes = ct_tensor_nbytes(tensor), total = strchr(name, '.') ? nbytes * world : nbytes;
        unsigned char *at = all + *used + sizeof total, *own = calloc(1, nbytes);
        EXPECT(own && *used + sizeof total + nbytes * world <= MOST);
        TRY_TORCH(ct_tensor_copy_to_memory(tensor, own, nbytes));
        TRY(cadre_all_gather(cadre_session_comm(session), own, at, nbytes / sizeof(int32_t), CADRE_INT32));
        EXPECT(total > nbytes || world == 1 || memcmp(at, at + nbytes, nbytes) == 0);
        free(own);
        while (total > 0 && at[total - 1] == 0)
            total--;
        memcpy(all + *used, &total, sizeof total);
        *used += sizeof total + total;
    }
done:
    return status;
}

/* Rank 0 keeps the state for the next of the chain, or compares it with what the last one left. */
static int keep_or_compare(cadre_session *session, const struct chain *chain, const ct_optim *optim, bool compare)
{
    int status = CADRE_OK;
    static unsigned char now[MOST], then[MOST];
    size_t used, had = 0;
    char path[1024];
    snprintf(path, sizeof path, "%s/%s.state", chain->folder, chain->name);
    TRY(gather_state(session, optim, now, &used));
    if (cadre_session_rank(session) == 0) {
        FILE *file = fopen(path, compare ? "rb" : "wb");
        EXPECT(file);
        if (compare)
            had = fread(then, 1, sizeof then, file);
        else
            fwrite(now, 1, used, file);
        EXPECT(fclose(file) == 0);
        EXPECT(used > 3000 && (!compare || (had == used && memcmp(now, then, used) == 0)));
    }
done:
    return status;
}

static int steps(cadre_session *session, cadre_ddp *ddp, ct_module *model, ct_optim *optim, cadre_state *state)
{
    int status = CADRE_OK;
    for (int64_t end = state->step + STEPS; state->step < end; state->step++) {
        ct_tensor *loss;
        ct_scope_begin();
        TRY_TORCH(ct_module_zero_grad(model, true));
        status = make_loss(model, CT_FLOAT32, (uint64_t)(10 * state->step + cadre_session_rank(session)), &loss);
        if (!status)
            status = cadre_ddp_backward(ddp, loss);
        if (!status)
            status = cadre_ddp_step(ddp, optim);
        ct_scope_end();
        TRY(status);
    }
    uint64_t hash = cadre_module_hash(model), first = hash;
    TRY(cadre_broadcast(cadre_session_comm(session), &first, 1, CADRE_INT64, 0));
    EXPECT(first == hash);
done:
    return status;
}

static int train(cadre_session *session, const cadre_config *config, void *user)
{
    const struct chain *chain = user;
    int status = CADRE_OK;
    cadre_ddp *ddp = NULL;
    ct_optim *optim = NULL;
    cadre_state *state = NULL;
    ct_module *model = make_model(5, CT_FLOAT32);
    (void)config;
    TRY(cadre_ddp_new(&ddp, model, cadre_session_comm(session),
                      &(cadre_ddp_options){.sharded = true, .bucket_nbytes = 700}));
    TRY(make_optim(cadre_ddp_shards(ddp), chain->adam, &optim));
    TRY(cadre_state_new(&state));
    TRY(cadre_state_add_module(state, "model", model));
    TRY(cadre_state_add_sharded_optim(state, "optim", optim));
    TRY(cadre_session_restore(session, state));
    if (state->step > 0)
        TRY(keep_or_compare(session, chain, optim, true));
    EXPECT(cadre_session_attempt(session) == 0 || (state->step == STEPS && cadre_session_world(session) == 2));
    for (int round = 0; round < 1 + chain->elastic; round++) {
        TRY(steps(session, ddp, model, optim, state));
        if (round > 0 && cadre_session_attempt(session) == 0 &&
            cadre_session_rank(session) == cadre_session_world(session) - 1)
            raise(SIGKILL);
        TRY(keep_or_compare(session, chain, optim, false));
        TRY(cadre_report(session, CADRE_METRICS({"step", (double)state->step, CADRE_REDUCE_NONE, 0}), state));
    }
done:
    cadre_state_free(state);
    ct_optim_free(optim);
    cadre_ddp_free(ddp);
    ct_module_free(model);
    return status;
}

/* Buckets of another size are other arrays: said, not mixed up. */
static int train_otherwise(cadre_session *session, const cadre_config *config, void *user)
{
    const struct chain *chain = user;
    int status = CADRE_OK;
    cadre_ddp *ddp = NULL;
    ct_optim *optim = NULL;
    cadre_state *state = NULL;
    ct_module *model = make_model(5, CT_FLOAT32);
    (void)config;
    TRY(cadre_ddp_new(&ddp, model, cadre_session_comm(session),
                      &(cadre_ddp_options){.sharded = true, .bucket_nbytes = 400}));
    TRY(make_optim(cadre_ddp_shards(ddp), chain->adam, &optim));
    TRY(cadre_state_new(&state));
    TRY(cadre_state_add_module(state, "model", model));
    TRY(cadre_state_add_sharded_optim(state, "optim", optim));
    EXPECT(cadre_session_restore(session, state) == CADRE_EMISMATCH &&
           strstr(cadre_error_message(), "it has no local entry \"optim."));
done:
    cadre_state_free(state);
    ct_optim_free(optim);
    cadre_ddp_free(ddp);
    ct_module_free(model);
    return status;
}

static int run(const struct chain *chain, cadre_train_fn *train_fn, int workers, bool resume)
{
    cadre_result result;
    cadre_trainer trainer = {
        .train = train_fn,
        .user = (void *)(uintptr_t)chain,
        .scaling = {.num_workers = workers, .min_workers = chain->elastic, .regrow_s = -1, .timeout_s = 60},
        .checkpoint = {.sharded = chain->sharded},
        .failure = {.max_failures = chain->elastic},
        .run = {
            .name = chain->name, .storage = chain->folder, .resume = resume ? CADRE_RESUME_LAST : CADRE_RESUME_NEW}};
    int status = cadre_trainer_fit(&trainer, &result);
    bool fine = status == CADRE_OK && result.attempts == 1 + chain->elastic;
    printf("%-14s %d workers: %s%s\n", chain->name, workers,
           fine ? "fine" : "FAILED: ", status ? cadre_error_message() : "");
    fflush(stdout);
    return fine ? 0 : 1;
}

int main(int argc, char **argv)
{
    static const int worlds[] = {2, 2, 1, 3, 2, 4, 1};
    int failed = 0;
    if (argc < 2) {
        fprintf(stderr, "usage: test_sharded FOLDER\n");
        return 2;
    }
    const struct chain chains[] = {{"sgd", 0, 0, argv[1], false},
                                   {"sgd-shares", 0, 1, argv[1], false},
                                   {"adamw", 1, 0, argv[1], false},
                                   {"adamw-shares", 1, 1, argv[1], false}},
                       elastic[] = {{"elastic", 1, 0, argv[1], true}, {"elastic-shares", 1, 1, argv[1], true}};
    for (size_t c = 0; c < sizeof chains / sizeof *chains; c++)
        for (size_t i = 0; i <= sizeof worlds / sizeof *worlds; i++) {
            bool last = i == sizeof worlds / sizeof *worlds;
            failed += run(&chains[c], last ? train_otherwise : train, last ? 2 : worlds[i], i > 0);
        }
    for (size_t c = 0; c < sizeof elastic / sizeof *elastic; c++)
        failed += run(&elastic[c], train, 3, false);
    return failed ? 1 : 0;
}
