/*
 * Logical workers with what draws random numbers, clips and is restored: the same bits as 1, 2 and 4 processes, killed or not, with checkpoints in one
 * file or in shares. And what would break that is refused. test_logical FOLDER
 */
#include "ddp_support.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORKERS = 4, STEPS = 6 };

struct job {
    const char *name;
    int world, sharded;
    int kill_rank; /* in the first attempt, before step 4; -1: none */
    char result[1024];
};

/* Inputs, labels and what is dropped are drawn from the worker's own generator. */
static int pass(ct_module *model, cadre_ddp *ddp, int worker)
{
    int status = CADRE_OK;
    ct_tensor *x, *labels, *logits, *loss;
    ct_scope_begin();
    TRY(cadre_ddp_logical(ddp, worker));
    TRY_TORCH(ct_tensor_randn(CT_SHAPE(6, 12), CT_FLOAT32, NULL, &x));
    TRY_TORCH(ct_tensor_randint(0, 5, CT_SHAPE(6), CT_INT64, NULL, &labels));
    TRY_TORCH(ct_module_forward(model, x, &logits));
    TRY_TORCH(ct_cross_entropy(logits, labels, 0.0, &loss));
    TRY(cadre_ddp_backward(ddp, loss));
done:
    ct_scope_end();
    return status;
}

static int train_on(cadre_session *session, const struct job *job, cadre_state *state, ct_module *model, cadre_ddp *ddp, ct_optim *optim)
{
    int status = CADRE_OK;
    while (state->step < STEPS) {
        double norm;
        if (state->step == 3 && cadre_session_attempt(session) == 0 && cadre_session_rank(session) == job->kill_rank)
            raise(SIGKILL);
        TRY_TORCH(ct_module_zero_grad(model, true));
        for (int i = 0; i < cadre_session_logical_count(session); i++)
            TRY(pass(model, ddp, i));
        TRY(cadre_ddp_clip_grad_norm(ddp, 0.05, &norm));
        EXPECT(norm > 0.05); /* it does clip */
        TRY(cadre_ddp_step(ddp, optim));
        state->step++;
        TRY(cadre_step(session, state));
    }
done:
    return status;
}

static int write_result(const struct job *job, const ct_module *model)
{
    FILE *file = fopen(job->result, "w");
    if (!file || fprintf(file, "%016llx\n", (unsigned long long)cadre_module_hash(model)) < 0 || fclose(file) != 0)
        return cadre_fail(CADRE_EIO, "write %s", job->result);
    return CADRE_OK;
}

static int train(cadre_session *session, const cadre_config *config, void *user)
{
    int status = CADRE_OK, parts = cadre_session_logical_count(session);
    const struct job *job = user;
    cadre_ddp *ddp = NULL;
    cadre_state *state = NULL;
    ct_optim *optim = NULL;
    (void)config;
    ct_set_num_threads(cadre_session_threads(session));
    ct_manual_seed(3);
    ct_module *model = CT_SEQUENTIAL(ct_nn_linear(12, 33, true), ct_nn_tanh(), ct_nn_dropout(0.3), ct_nn_linear(33, 5, true));
    EXPECT(model && parts * job->world == WORKERS);
    ct_module_train(model, true);
    TRY(cadre_ddp_new(&ddp, model, cadre_session_comm(session), &(cadre_ddp_options){.bucket_nbytes = 400, .logical = parts, .logical_seed = 11}));
    TRY_TORCH(ct_adamw_new(model, &(ct_adam_options){.lr = 0.01}, &optim));
    TRY(cadre_state_new(&state));
    TRY(cadre_state_add_module(state, "model", model));
    TRY(cadre_state_add_optim(state, "optim", optim));
    TRY(cadre_state_add_logical_rng(state, "random", ddp));
    TRY(cadre_session_restore(session, state));
    TRY(train_on(session, job, state, model, ddp, optim));
    if (cadre_session_rank(session) == 0)
        TRY(write_result(job, model));
done:
    cadre_state_free(state);
    ct_optim_free(optim);
    cadre_ddp_free(ddp);
    ct_module_free(model);
    return status;
}

/* ---- refusals ------------------------------------------------------------------------------------------------------------------------- */

static int refused(cadre_session *session, ct_module *model, cadre_ddp_options options, int wanted, const char *words)
{
    cadre_ddp *ddp = NULL;
    int status = cadre_ddp_new(&ddp, model, cadre_session_comm(session), &options);
    if (status == wanted && !ddp && strstr(cadre_error_message(), words))
        return CADRE_OK;
    cadre_ddp_free(ddp);
    return cadre_fail(CADRE_ETRAIN, "%s instead of \"%s\": %s", cadre_status_name(status), words, status ? cadre_error_message() : "");
}

static int refuse(cadre_session *session, const cadre_config *config, void *user)
{
    int status = CADRE_OK, parts = cadre_session_logical_count(session);
    cadre_ddp *ddp = NULL;
    cadre_state *state = NULL;
    char path[1100];
    ct_module *model = make_model(3, CT_FLOAT32), *narrow = make_model(3, CT_BFLOAT16);
    (void)config;
    snprintf(path, sizeof path, "%s-checkpoint-%d", (const char *)user, cadre_session_rank(session));
    TRY(refused(session, model, (cadre_ddp_options){.bucket_nbytes = 400}, CADRE_EINVAL, "set .logical = cadre_session_logical_count(session)"));
    TRY(refused(session, model, (cadre_ddp_options){.logical = 2 * parts}, CADRE_EINVAL, "set .logical = cadre_session_logical_count(session)"));
    TRY(refused(session, model, (cadre_ddp_options){.logical = parts, .wire = CADRE_WIRE_BFLOAT16}, CADRE_ENOTSUP, ".wire"));
    TRY(refused(session, model, (cadre_ddp_options){.logical = parts, .find_unused = true}, CADRE_ENOTSUP, ".find_unused"));
    TRY(refused(session, model, (cadre_ddp_options){.logical = parts, .sharded = true}, CADRE_ENOTSUP, ".sharded"));
    TRY(refused(session, model, (cadre_ddp_options){.logical = parts, .overlap = true}, CADRE_ENOTSUP, ".overlap"));
    TRY(refused(session, model, (cadre_ddp_options){.logical = parts, .buffers = CADRE_BUFFERS_MEAN}, CADRE_ENOTSUP, ".buffers"));
    TRY(refused(session, narrow, (cadre_ddp_options){.logical = parts}, CADRE_ENOTSUP, "bfloat16"));
    TRY(cadre_ddp_new(&ddp, model, cadre_session_comm(session), &(cadre_ddp_options){.logical = parts}));
    EXPECT(cadre_ddp_no_sync(ddp, true) == CADRE_ENOTSUP);
    EXPECT(cadre_ddp_logical(ddp, 1) == CADRE_ESTATE);
    TRY(cadre_state_new(&state)); /* one generator of several */
    TRY(cadre_state_add_torch_rng(state, "random"));
    EXPECT(cadre_checkpoint_save(path, state) == CADRE_ENOTSUP && strstr(cadre_error_message(), "cadre_state_add_logical_rng"));
    cadre_ddp_free(ddp);
    ddp = NULL;
    status = cadre_checkpoint_save(path, state);
    status = status == CADRE_EEXIST ? CADRE_OK : status; /* of the test before */
done:
    cadre_state_free(state);
    cadre_ddp_free(ddp);
    ct_module_free(model);
    ct_module_free(narrow);
    return status;
}

/* ---- all of it ---------------------------------------------------------------------------------------------------------------------------- */

static int fit(const char *folder, struct job *job)
{
    cadre_result result;
    snprintf(job->result, sizeof job->result, "%s/%s.hash", folder, job->name);
    cadre_trainer trainer = {.train = train, .user = job, .scaling = {.num_workers = job->world, .logical_workers = WORKERS, .timeout_s = 60},
                             .run = {.name = job->name, .storage = folder}, .failure = {.max_failures = 1},
                             .checkpoint = {.every_steps = 2, .sharded = job->sharded}};
    remove(job->result);
    int status = cadre_trainer_fit(&trainer, &result);
    return status == CADRE_OK && result.attempts != (job->kill_rank >= 0 ? 2 : 1) ? cadre_fail(CADRE_ETRAIN, "%d attempts", result.attempts) : status;
}

static void read_hash(const char *path, char hash[32])
{
    FILE *file = fopen(path, "r");
    *hash = '\0';
    if (file && !fgets(hash, 32, file))
        *hash = '\0';
    if (file)
        fclose(file);
}

int main(int argc, char **argv)
{
    struct job jobs[] = {{"one", 1, 0, -1, ""},       {"two", 2, 0, -1, ""},    {"four", 4, 0, -1, ""},
                         {"two-killed", 2, 0, 1, ""}, {"shares", 4, 1, 0, ""},  {"two-shares", 2, 1, 1, ""}};
    int failed = 0;
    char first[32] = "", refusals[1024];
    if (argc < 2) {
        fprintf(stderr, "usage: test_logical FOLDER\n");
        return 2;
    }
    for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++) {
        char hash[32];
        int status = fit(argv[1], &jobs[i]);
        read_hash(jobs[i].result, hash);
        if (i == 0)
            memcpy(first, hash, sizeof first);
        bool fine = status == CADRE_OK && *hash && strcmp(hash, first) == 0;
        printf("%-12s %s%s%s\n", jobs[i].name, fine ? "fine" : "FAILED: other bits", status ? ": " : "", status ? cadre_error_message() : "");
        failed += !fine;
    }
    snprintf(refusals, sizeof refusals, "%s/refusals", argv[1]);
    cadre_trainer trainer = {.train = refuse, .user = refusals, .scaling = {.num_workers = 2, .logical_workers = WORKERS, .timeout_s = 60},
                             .run = {.name = "refusals", .storage = argv[1]}};
    int status = cadre_trainer_fit(&trainer, NULL);
    printf("%-12s %s%s%s\n", "refusals", status ? "FAILED" : "fine", status ? ": " : "", status ? cadre_error_message() : "");
    return failed || status != CADRE_OK;
}
