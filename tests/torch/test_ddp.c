/*
 * ddp in forked workers: what the train functions below find wrong comes back as the failure of cadre_trainer_fit. test_ddp FOLDER [CASE]
 * runs all cases or the one of that name.
 */
#include "ddp_support.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What ddp leaves is the mean of what every rank computes alone, to the last bits of the dtype; and the same bits on all ranks. */
static int check_mean(cadre_session *session, ct_dtype dtype, const cadre_ddp_options *options, double bar)
{
    int status = CADRE_OK, rank = cadre_session_rank(session), world = cadre_session_world(session);
    static double own[ROOM], mean[ROOM], alike[ROOM];
    size_t count = 0, again = 0;
    cadre_ddp *ddp = NULL;
    ct_module *plain = make_model(3, dtype), *model = make_model(3 + (uint64_t)rank, dtype);
    ct_scope_begin();
    EXPECT(plain && model);
    for (uint64_t pass = 0; pass < 3; pass++) {
        ct_tensor *loss;
        if (!ddp)
            TRY(cadre_ddp_new(&ddp, model, cadre_session_comm(session), options));
        EXPECT(cadre_module_hash(model) == cadre_module_hash(plain)); /* rank 0's, though each had its own */
        TRY(make_loss(plain, dtype, 100 * pass + (uint64_t)rank, &loss));
        TRY_TORCH(ct_module_zero_grad(plain, true));
        TRY_TORCH(ct_backward(loss, 1.0));
        TRY(read_gradients(plain, own, ROOM, &count));
        TRY(cadre_all_reduce(cadre_session_comm(session), own, count, CADRE_FLOAT64, CADRE_MEAN));

        TRY(make_loss(model, dtype, 100 * pass + (uint64_t)rank, &loss));
        TRY_TORCH(ct_module_zero_grad(model, true));
        TRY(cadre_ddp_backward(ddp, loss));
        TRY(read_gradients(model, mean, ROOM, &again));
        EXPECT(again == count);
        for (size_t i = 0; i < count; i++)
            EXPECT(fabs(mean[i] - own[i]) <= bar * (fabs(own[i]) + 0.1));
        memcpy(alike, mean, sizeof alike);
        TRY(cadre_broadcast(cadre_session_comm(session), alike, count, CADRE_FLOAT64, 0));
        EXPECT(memcmp(alike, mean, count * sizeof *mean) == 0);
    }
    cadre_ddp_statistics stats;
    TRY(cadre_ddp_stats(ddp, &stats));
    EXPECT(stats.passes == 3 && (stats.buckets > 0) == (world > 1));
    EXPECT((stats.hidden_s > 0) == (world > 1 && options && options->overlap));
done:
    ct_scope_end();
    cadre_ddp_free(ddp);
    ct_module_free(model);
    ct_module_free(plain);
    return status;
}

static int mean_overlap(cadre_session *session, const cadre_config *config, void *user)
{
    (void)config, (void)user;
    return check_mean(session, CT_FLOAT32, &(cadre_ddp_options){.bucket_nbytes = 256, .overlap = true}, 1e-6);
}

static int mean_float32(cadre_session *session, const cadre_config *config, void *user)
{
    (void)config, (void)user;
    return check_mean(session, CT_FLOAT32, NULL, 1e-6);
}

static int mean_many_buckets(cadre_session *session, const cadre_config *config, void *user)
{
    (void)config, (void)user;
    return check_mean(session, CT_FLOAT32, &(cadre_ddp_options){.bucket_nbytes = 256}, 1e-6);
}

static int mean_float64(cadre_session *session, const cadre_config *config, void *user)
{
    (void)config, (void)user;
    return check_mean(session, CT_FLOAT64, &(cadre_ddp_options){.bucket_nbytes = 1024}, 1e-14);
}

static int mean_bfloat16(cadre_session *session, const cadre_config *config, void *user)
{
    (void)config, (void)user;
    return check_mean(session, CT_BFLOAT16, NULL, 1.0 / 128);
}

/* How gradients are cut into buckets changes no bit of them. */
static int buckets_alike(cadre_session *session, const cadre_config *config, void *user)
{
    static const size_t sizes[] = {1, 300, 4096, 0};
    int status = CADRE_OK;
    uint64_t first = 0;
    (void)config, (void)user;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        cadre_ddp *ddp = NULL;
        ct_optim *optim = NULL;
        ct_module *model = make_model(5, CT_FLOAT32);
        status = cadre_ddp_new(&ddp, model, cadre_session_comm(session), &(cadre_ddp_options){.bucket_nbytes = sizes[i]});
        ct_sgd_new(model, &(ct_sgd_options){.lr = 0.1, .momentum = 0.9}, &optim);
        for (uint64_t step = 0; step < 5 && status == CADRE_OK; step++) {
            ct_tensor *loss;
            ct_scope_begin();
            status = make_loss(model, CT_FLOAT32, 10 * step + (uint64_t)cadre_session_rank(session), &loss);
            ct_optim_zero_grad(optim, true);
            if (status == CADRE_OK)
                status = cadre_ddp_backward(ddp, loss);
            ct_optim_step(optim);
            ct_scope_end();
        }
        uint64_t hash = cadre_module_hash(model);
        cadre_ddp_free(ddp);
        ct_optim_free(optim);
        ct_module_free(model);
        TRY(status);
        first = i == 0 ? hash : first;
        EXPECT(hash == first);
    }
done:
    return status;
}

/* ---- models and passes that are wrong ---------------------------------------------------------------------------------------- */

static int other_model(cadre_session *session, const cadre_config *config, void *user)
{
    (void)config, (void)user;
    cadre_ddp *ddp = NULL;
    int wide = cadre_session_rank(session) == 1 ? 8 : 7;
    ct_module *model = CT_SEQUENTIAL(ct_nn_linear(4, wide, true), ct_nn_linear(wide, 2, true));
    int status = cadre_ddp_new(&ddp, model, cadre_session_comm(session), NULL);
    cadre_ddp_free(ddp);
    ct_module_free(model);
    return status;
}

static int longer_model(cadre_session *session, const cadre_config *config, void *user)
{
    (void)config, (void)user;
    cadre_ddp *ddp = NULL;
    ct_module *model = CT_SEQUENTIAL(ct_nn_linear(4, 4, true), ct_nn_linear(4, 4, true));
    if (cadre_session_rank(session) == 1)
        ct_module_add(model, "more", ct_nn_linear(4, 4, false));
    int status = cadre_ddp_new(&ddp, model, cadre_session_comm(session), NULL);
    cadre_ddp_free(ddp);
    ct_module_free(model);
    return status;
}

static int with_gaps(cadre_session *session, const cadre_config *config, void *user)
{
    (void)config, (void)user;
    cadre_ddp *ddp = NULL;
    ct_tensor *holes = NULL, *part = NULL;
    ct_module *model = ct_nn_module(NULL, NULL);
    ct_tensor_zeros(CT_SHAPE(6, 6), CT_FLOAT32, NULL, &holes);
    ct_slice(holes, 1, 0, 6, 2, &part);
    ct_module_add_parameter(model, "gaps", part, NULL);
    int status = cadre_ddp_new(&ddp, model, cadre_session_comm(session), NULL);
    cadre_ddp_free(ddp);
    ct_module_free(model);
    ct_tensor_free(part);
    ct_tensor_free(holes);
    return status;
}

static ct_status skip_second(ct_module *m, ct_tensor *x, ct_tensor **out, void *user)
{
    (void)user;
    return ct_child_forward(m, "first", x, out);
}

static int unused(cadre_session *session, const cadre_config *config, void *user)
{
    int status = CADRE_OK;
    (void)config, (void)user;
    cadre_ddp *ddp = NULL;
    ct_tensor *x, *y, *loss;
    ct_module *model = ct_nn_module(skip_second, NULL);
    ct_module_add(model, "first", ct_nn_linear(4, 4, true));
    ct_module_add(model, "second", ct_nn_linear(4, 4, true));
    ct_scope_begin();
    TRY(cadre_ddp_new(&ddp, model, cadre_session_comm(session), NULL));
    TRY_TORCH(ct_tensor_ones(CT_SHAPE(2, 4), CT_FLOAT32, NULL, &x));
    TRY_TORCH(ct_module_forward(model, x, &y));
    TRY_TORCH(ct_mean(y, &loss));
    TRY(cadre_ddp_backward(ddp, loss));
done:
    ct_scope_end();
    cadre_ddp_free(ddp);
    ct_module_free(model);
    return status;
}

/* ---- clipping, NaN, the wish to leave ------------------------------------------------------------------------------------------ */

static double norm_of(const double *values, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += values[i] * values[i];
    return sqrt(sum);
}

static int clip(cadre_session *session, const cadre_config *config, void *user)
{
    int status = CADRE_OK;
    static double before[ROOM], after[ROOM];
    size_t count;
    (void)config, (void)user;
    cadre_ddp *ddp = NULL;
    ct_tensor *loss;
    double norm;
    ct_module *model = make_model(9, CT_FLOAT32);
    ct_scope_begin();
    TRY(cadre_ddp_new(&ddp, model, cadre_session_comm(session), NULL));
    TRY(make_loss(model, CT_FLOAT32, 50 + (uint64_t)cadre_session_rank(session), &loss));
    TRY(cadre_ddp_backward(ddp, loss));
    TRY(read_gradients(model, before, ROOM, &count));
    TRY(cadre_ddp_clip_grad_norm(ddp, 1e6, &norm)); /* far above: nothing is changed */
    EXPECT(fabs(norm - norm_of(before, count)) < 1e-9 * norm);
    TRY(read_gradients(model, after, ROOM, &count));
    EXPECT(memcmp(before, after, count * sizeof *before) == 0);
    double bound = norm / 3;
    TRY(cadre_ddp_clip_grad_norm(ddp, bound, NULL));
    TRY(read_gradients(model, after, ROOM, &count));
    EXPECT(fabs(norm_of(after, count) - bound) < 1e-5 * bound);
    EXPECT(cadre_ddp_clip_grad_norm(ddp, 0, NULL) == CADRE_EINVAL);
    EXPECT(cadre_ddp_clip_grad_norm(ddp, NAN, NULL) == CADRE_EINVAL);
done:
    ct_scope_end();
    cadre_ddp_free(ddp);
    ct_module_free(model);
    return status;
}

static int nan_loss(cadre_session *session, const cadre_config *config, void *user)
{
    int status = CADRE_OK;
    (void)config, (void)user;
    cadre_ddp *ddp = NULL;
    ct_tensor *loss;
    ct_module *model = make_model(9, CT_FLOAT32);
    TRY(cadre_ddp_new(&ddp, model, cadre_session_comm(session), NULL));
    for (int step = 0; step < 4; step++) {
        double value = 0;
        ct_scope_begin();
        status = make_loss(model, CT_FLOAT32, 50 + (uint64_t)step, &loss);
        if (status == CADRE_OK && ct_mul_scalar(loss, step == 1 ? NAN : 1.0, &loss) == CT_OK && ct_tensor_item(loss, &value) == CT_OK)
            status = cadre_ddp_backward(ddp, loss);
        ct_module_zero_grad(model, true);
        ct_scope_end();
        TRY(status);
        EXPECT(isnan(value) == (step == 1));
        TRY(cadre_step(session, NULL));
        TRY(cadre_report(session, CADRE_METRICS({"loss", step == 3 ? NAN : value, CADRE_REDUCE_NONE, 0}, {"step", step, CADRE_REDUCE_NONE, 0}), NULL));
    }
done:
    cadre_ddp_free(ddp);
    ct_module_free(model);
    return status;
}

/* One rank is asked to leave: all leave, at the same step, and the next one after it was asked. */
static int wish(cadre_session *session, const cadre_config *config, void *user)
{
    int status = CADRE_OK, stopped = CADRE_OK;
    int64_t steps = 0, all[8];
    (void)config, (void)user;
    cadre_ddp *ddp = NULL;
    ct_tensor *loss;
    ct_module *model = make_model(9, CT_FLOAT32);
    TRY(cadre_ddp_new(&ddp, model, cadre_session_comm(session), NULL));
    while (stopped != CADRE_STOP && steps < 100) {
        if (steps == 5 && cadre_session_rank(session) == cadre_session_world(session) - 1)
            raise(SIGUSR1);
        ct_scope_begin();
        status = make_loss(model, CT_FLOAT32, 50 + (uint64_t)steps, &loss);
        ct_module_zero_grad(model, true);
        if (status == CADRE_OK)
            status = cadre_ddp_backward(ddp, loss);
        ct_scope_end();
        TRY(status);
        TRY(stopped = cadre_step(session, NULL));
        steps++;
    }
    TRY(cadre_all_gather(cadre_session_comm(session), &steps, all, 1, CADRE_INT64));
    for (int rank = 0; rank < cadre_session_world(session); rank++)
        EXPECT(all[rank] == steps);
    EXPECT(steps == 6 || steps == 7);
done:
    cadre_ddp_free(ddp);
    ct_module_free(model);
    return status;
}

/* A model that goes while its ddp's gradients were bound leaves nothing behind: make, use and free many, gradients outliving the ddp. */
static int many(cadre_session *session, const cadre_config *config, void *user)
{
    int status = CADRE_OK;
    (void)config, (void)user;
    for (uint64_t round = 0; round < 20; round++) {
        cadre_ddp *ddp = NULL;
        ct_tensor *loss, *param, *grad = NULL;
        ct_module *model = make_model(round, CT_FLOAT32);
        TRY(cadre_ddp_new(&ddp, model, cadre_session_comm(session), NULL));
        for (int use = 0; use < 2; use++) { /* the second time without ddp */
            ct_scope_begin();
            status = make_loss(model, CT_FLOAT32, round, &loss);
            if (status == CADRE_OK)
                status = ddp ? cadre_ddp_backward(ddp, loss) : ct_backward(loss, 1.0) == CT_OK ? CADRE_OK : CADRE_ETORCH;
            ct_scope_end();
            TRY(status);
            TRY_TORCH(ct_module_parameter_at(model, 0, NULL, &param));
            cadre_ddp_free(ddp);
            ddp = NULL;
            TRY_TORCH(ct_tensor_grad(param, &grad));
            EXPECT((grad == NULL) == (use == 0));
            ct_tensor_free(grad);
        }
        ct_module_free(model);
    }
done:
    return status;
}

/* ---- the cases ------------------------------------------------------------------------------------------------------------------- */

static const struct test {
    const char *name;
    cadre_train_fn *train;
    int world, status;
    const char *message; /* that the failure must have in it */
} tests[] = {
    {"mean_float32", mean_float32, 2, CADRE_OK, NULL},
    {"mean_three", mean_float32, 3, CADRE_OK, NULL},
    {"mean_alone", mean_float32, 1, CADRE_OK, NULL},
    {"mean_overlap", mean_overlap, 2, CADRE_OK, NULL},
    {"mean_many_buckets", mean_many_buckets, 2, CADRE_OK, NULL},
    {"mean_float64", mean_float64, 2, CADRE_OK, NULL},
    {"mean_bfloat16", mean_bfloat16, 2, CADRE_OK, NULL},
    {"buckets_alike", buckets_alike, 3, CADRE_OK, NULL},
    {"other_model", other_model, 2, CADRE_EMISMATCH, "\"0.weight\" float32 ["},
    {"longer_model", longer_model, 3, CADRE_EMISMATCH, "rank 1's model differs from rank 0's"},
    {"gaps", with_gaps, 2, CADRE_ENOTSUP, "\"gaps\""},
    {"unused", unused, 2, CADRE_ETRAIN, "2 parameters got no gradient in the backward pass (\"second.weight\", \"second.bias\")"},
    {"clip", clip, 2, CADRE_OK, NULL},
    {"nan_loss", nan_loss, 2, CADRE_OK, NULL},
    {"wish", wish, 3, CADRE_OK, NULL},
    {"many", many, 2, CADRE_OK, NULL},
};

static int run(const struct test *test, const char *folder)
{
    cadre_trainer trainer = {.train = test->train, .scaling = {.num_workers = test->world, .timeout_s = 60},
                             .run = {.name = test->name, .storage = folder}};
    cadre_result result;
    int status = cadre_trainer_fit(&trainer, &result);
    bool fine = status == test->status && (!test->message || strstr(cadre_error_message(), test->message));
    if (strcmp(test->name, "nan_loss") == 0)
        fine = fine && isnan(cadre_result_metric(&result, "loss")) && cadre_result_metric(&result, "step") == 3 && result.reports == 4;
    if (strcmp(test->name, "wish") == 0)
        fine = fine && result.stopped;
    printf("%-20s %d workers: %s%s%s\n", test->name, test->world, fine ? "fine" : "FAILED", status ? ": " : "", status ? cadre_error_message() : "");
    fflush(stdout);
    return fine ? 0 : 1;
}

int main(int argc, char **argv)
{
    int failed = 0, ran = 0;
    if (argc < 2) {
        fprintf(stderr, "usage: test_ddp FOLDER [CASE]\n");
        return 2;
    }
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        if (argc < 3 || strcmp(argv[2], tests[i].name) == 0) {
            failed += run(&tests[i], argv[1]);
            ran++;
        }
    return failed || !ran ? 1 : 0;
}
