/* What ddp does on request, each against what one process alone comes to. test_ddp_options FOLDER [CASE] */
#include "ddp_support.h"

#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Rounded to bfloat16, to nearest even. */
static double rounded(double value)
{
    float narrow = (float)value;
    uint32_t bits;
    memcpy(&bits, &narrow, 4);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
    memcpy(&narrow, &bits, 4);
    return narrow;
}

/* ---- accumulation ----------------------------------------------------------------------------------------------------------- */

static int accumulate(cadre_session *session, const cadre_config *config, void *user)
{
    int status = CADRE_OK;
    uint64_t rank = (uint64_t)cadre_session_rank(session);
    static double sum[ROOM], got[ROOM];
    size_t count, again;
    cadre_ddp *ddp = NULL;
    cadre_ddp_statistics stats;
    ct_module *plain = make_model(3, CT_FLOAT32), *model = make_model(3, CT_FLOAT32);
    (void)config, (void)user;
    TRY(cadre_ddp_new(&ddp, model, cadre_session_comm(session), &(cadre_ddp_options){.bucket_nbytes = 400}));
    for (uint64_t step = 0; step < 3; step++) {
        TRY_TORCH(ct_module_zero_grad(plain, true));
        TRY_TORCH(ct_module_zero_grad(model, true));
        TRY(cadre_ddp_stats(ddp, &stats));
        int64_t before = stats.buckets;
        for (uint64_t part = 0; part < 3; part++) {
            ct_tensor *loss;
            uint64_t seed = 1000 * step + 10 * part + rank;
            ct_scope_begin();
            status = make_loss(plain, CT_FLOAT32, seed, &loss);
            if (!status && ct_backward(loss, 1.0) != CT_OK)
                status = CADRE_ETORCH;
            if (!status)
                status = make_loss(model, CT_FLOAT32, seed, &loss);
            if (!status)
                status = cadre_ddp_no_sync(ddp, part < 2);
            if (!status)
                status = cadre_ddp_backward(ddp, loss);
            ct_scope_end();
            TRY(status);
            TRY(cadre_ddp_stats(ddp, &stats));
            EXPECT((stats.buckets == before) == (part < 2)); /* nothing is exchanged until the last */
        }
        TRY(read_gradients(plain, sum, ROOM, &count));
        TRY(cadre_all_reduce(cadre_session_comm(session), sum, count, CADRE_FLOAT64, CADRE_MEAN));
        TRY(read_gradients(model, got, ROOM, &again));
        EXPECT(again == count);
        for (size_t i = 0; i < count; i++)
            EXPECT(fabs(got[i] - sum[i]) <= 1e-6 * (fabs(sum[i]) + 0.1));
        EXPECT(stats.passes == (int64_t)step + 1 && stats.buckets % stats.passes == 0 && stats.nbytes > 0);
        EXPECT(stats.waited_s > 0 && stats.backward_s > 0 && stats.hidden_s == 0);
        EXPECT(stats.late_s >= 0 && stats.late_s <= stats.waited_s);
    }
    EXPECT(cadre_ddp_no_sync(NULL, true) == CADRE_EINVAL);
done:
    cadre_ddp_free(ddp);
    ct_module_free(model);
    ct_module_free(plain);
    return status;
}

/* ---- the wire ---------------------------------------------------------------------------------------------------------------- */

static int wire(cadre_session *session, const cadre_config *config, void *user)
{
    int status = CADRE_OK, world = cadre_session_world(session);
    static double mean[ROOM], got[ROOM];
    size_t count, again;
    cadre_ddp *ddp = NULL;
    cadre_ddp_statistics stats;
    ct_tensor *loss;
    ct_module *plain = make_model(3, CT_FLOAT32), *model = make_model(3, CT_FLOAT32);
    (void)config, (void)user;
    ct_scope_begin();
    TRY(cadre_ddp_new(&ddp, model, cadre_session_comm(session), &(cadre_ddp_options){.wire = CADRE_WIRE_BFLOAT16, .bucket_nbytes = 500}));
    for (uint64_t pass = 0; pass < 2; pass++) {
        uint64_t seed = 100 * pass + (uint64_t)cadre_session_rank(session);
        TRY(make_loss(plain, CT_FLOAT32, seed, &loss));
        TRY_TORCH(ct_module_zero_grad(plain, true));
        TRY_TORCH(ct_backward(loss, 1.0));
        TRY(read_gradients(plain, mean, ROOM, &count));
        for (size_t i = 0; i < count; i++)
            mean[i] = rounded(mean[i]);
        TRY(cadre_all_reduce(cadre_session_comm(session), mean, count, CADRE_FLOAT64, CADRE_SUM));
        TRY(make_loss(model, CT_FLOAT32, seed, &loss));
        TRY_TORCH(ct_module_zero_grad(model, true));
        TRY(cadre_ddp_backward(ddp, loss));
        TRY(read_gradients(model, got, ROOM, &again));
        EXPECT(again == count);
        for (size_t i = 0; i < count; i++) /* two bfloat16 add up without rounding in double, and nearly so in float32 */
            EXPECT(fabs(got[i] - rounded(mean[i] / world)) <= fabs(got[i]) * (world == 2 ? 0 : 1.0 / 128));
        TRY_TORCH(ct_module_zero_grad(model, true));
    }
    TRY(cadre_ddp_stats(ddp, &stats));
    EXPECT(stats.nbytes > 0 && stats.nbytes < (int64_t)(2 * count * stats.passes * 2)); /* half of float32's, and padding */
    EXPECT(cadre_comm_take_agreed(cadre_session_comm(session)) == 0); /* the wish to leave has come along */
done:
    ct_scope_end();
    cadre_ddp_free(ddp);
    ct_module_free(model);
    ct_module_free(plain);
    return status;
}

/* ---- unused parameters ------------------------------------------------------------------------------------------------------- */

/* "first", and then what user's bits say: 1: "second", 2: "third". */
static ct_status some(ct_module *m, ct_tensor *x, ct_tensor **out, void *user)
{
    int which = *(const int *)user;
    CT_CHECK(ct_child_forward(m, "first", x, &x));
    if (which & 1)
        CT_CHECK(ct_child_forward(m, "second", x, &x));
    if (which & 2)
        CT_CHECK(ct_child_forward(m, "third", x, &x));
    *out = x;
    return CT_OK;
}

static int unused_somewhere(cadre_session *session, const cadre_config *config, void *user)
{
    int status = CADRE_OK, rank = cadre_session_rank(session), which = 0;
    (void)config, (void)user;
    cadre_ddp *ddp = NULL;
    ct_optim *optim = NULL;
    ct_module *model = ct_nn_module(some, &which);
    ct_manual_seed(4);
    ct_module_add(model, "first", ct_nn_linear(4, 4, true));
    ct_module_add(model, "second", ct_nn_linear(4, 4, true));
    ct_module_add(model, "third", ct_nn_linear(4, 4, false));
    TRY(cadre_ddp_new(&ddp, model, cadre_session_comm(session), &(cadre_ddp_options){.find_unused = true, .bucket_nbytes = 1}));
    TRY_TORCH(ct_sgd_new(model, &(ct_sgd_options){.lr = 0.1, .weight_decay = 0.5}, &optim));
    for (int pass = 0; pass < 4; pass++) {
        ct_tensor *x, *y, *loss, *grad;
        double before, after, value;
        bool everywhere = pass == 1;
        ct_scope_begin();
        which = pass == 3 ? 0 : everywhere ? 3 : rank == 0 ? 1 : 0; /* in the last pass nobody needs the second either */
        TRY_TORCH(ct_optim_zero_grad(optim, true));
        TRY_TORCH(ct_tensor_ones(CT_SHAPE(2, 4), CT_FLOAT32, NULL, &x));
        TRY_TORCH(ct_sum(ct_module_tensor(model, "third.weight"), &y));
        TRY_TORCH(ct_tensor_item(y, &before));
        TRY_TORCH(ct_module_forward(model, x, &y));
        TRY_TORCH(ct_sum(y, &loss));
        TRY(cadre_ddp_backward(ddp, loss));
        const char *name = cadre_ddp_unused(ddp, pass == 3 ? 2 : 0);
        EXPECT(everywhere ? !name : name && strcmp(name, "third.weight") == 0);
        EXPECT(!cadre_ddp_unused(ddp, pass == 3 ? 3 : everywhere ? 0 : 1));
        TRY_TORCH(ct_tensor_grad(ct_module_tensor(model, "third.weight"), &grad));
        EXPECT((grad != NULL) == everywhere);
        TRY_TORCH(ct_tensor_grad(ct_module_tensor(model, "second.bias"), &grad));
        EXPECT((grad != NULL) == (pass != 3));
        if (!everywhere && grad) { /* 2 from rank 0, nothing from the others */
            TRY_TORCH(ct_mean(grad, &y));
            TRY_TORCH(ct_tensor_item(y, &value));
            EXPECT(fabs(value - 2.0 / cadre_session_world(session)) < 1e-6);
        }
        TRY_TORCH(ct_optim_step(optim));
        TRY_TORCH(ct_sum(ct_module_tensor(model, "third.weight"), &y));
        TRY_TORCH(ct_tensor_item(y, &after));
        EXPECT((before == after) == !everywhere); /* weight decay, too, leaves it alone */
        ct_scope_end();
    }
    uint64_t hash = cadre_module_hash(model), first = hash;
    TRY(cadre_broadcast(cadre_session_comm(session), &first, 1, CADRE_INT64, 0));
    EXPECT(first == hash);
done:
    cadre_ddp_free(ddp);
    ct_optim_free(optim);
    ct_module_free(model);
    return status;
}

/* Every rank uses what the others do not, and another one each time: "first" always, one of "second" and "third", and "fourth" only on the last rank
 * in the last pass. What somebody used has the mean over all ranks, zeros included, on all of them. */
static int unused_crossed(cadre_session *session, const cadre_config *config, void *user)
{
    static const char *const names[] = {"second.weight", "third.weight", "fourth.weight"};
    int status = CADRE_OK, rank = cadre_session_rank(session), world = cadre_session_world(session), which = 0;
    (void)config, (void)user;
    cadre_ddp *ddp = NULL;
    ct_module *model = ct_nn_module(some, &which);
    ct_manual_seed(4);
    ct_module_add(model, "first", ct_nn_linear(4, 4, true));
    for (int i = 0; i < 3; i++) {
        char child[16];
        snprintf(child, sizeof child, "%.*s", (int)strcspn(names[i], "."), names[i]);
        ct_module_add(model, child, ct_nn_linear(4, 4, false));
    }
    TRY(cadre_ddp_new(&ddp, model, cadre_session_comm(session), &(cadre_ddp_options){.find_unused = true, .bucket_nbytes = 1}));
    for (int pass = 0; pass < 4; pass++) {
        double users[3] = {0};
        ct_scope_begin();
        for (int r = 0; r < world; r++) {
            int used = (r + pass) % 2 ? 2 : 1;
            used |= pass == 3 && r == world - 1 ? 4 : 0;
            which = r == rank ? used : which;
            for (int i = 0; i < 3; i++)
                users[i] += used >> i & 1;
        }
        ct_tensor *x, *y, *loss, *grad;
        double value;
        TRY_TORCH(ct_module_zero_grad(model, true));
        TRY_TORCH(ct_tensor_ones(CT_SHAPE(1, 4), CT_FLOAT32, NULL, &x));
        for (int i = 0; i < 3; i++) { /* ones through a layer's weights, added up: each of them has a gradient of one */
            if (!(which >> i & 1))
                continue;
            TRY_TORCH(ct_child_forward(model, i == 0 ? "second" : i == 1 ? "third" : "fourth", x, &y));
            TRY_TORCH(ct_sum(y, &y));
            if (i == 2 && which & 3)
                TRY_TORCH(ct_add(loss, y, &loss));
            else
                loss = y;
        }
        TRY_TORCH(ct_child_forward(model, "first", x, &y));
        TRY_TORCH(ct_sum(y, &y));
        TRY_TORCH(ct_add(loss, y, &loss));
        TRY(cadre_ddp_backward(ddp, loss));
        for (int i = 0, unused = 0; i < 3; i++) {
            TRY_TORCH(ct_tensor_grad(ct_module_tensor(model, names[i]), &grad));
            EXPECT((grad != NULL) == (users[i] > 0));
            if (!grad) {
                const char *name = cadre_ddp_unused(ddp, (size_t)unused++);
                EXPECT(name && strcmp(name, names[i]) == 0 && !cadre_ddp_unused(ddp, (size_t)unused));
                continue;
            }
            TRY_TORCH(ct_mean(grad, &y));
            TRY_TORCH(ct_tensor_item(y, &value));
            EXPECT(fabs(value - users[i] / world) < 1e-6);
        }
        ct_scope_end();
    }
done:
    cadre_ddp_free(ddp);
    ct_module_free(model);
    return status;
}

/* ---- buffers ----------------------------------------------------------------------------------------------------------------- */

static int read_buffer(ct_module *model, const char *name, double *values)
{
    int status = CADRE_OK;
    ct_tensor *wide = NULL;
    TRY_TORCH(ct_to_dtype(ct_module_tensor(model, name), CT_FLOAT64, &wide));
    TRY_TORCH(ct_tensor_copy_to_memory(wide, values, 3 * sizeof *values));
    ct_tensor_free(wide);
done:
    return status;
}

static int check_buffers(cadre_session *session, cadre_ddp_buffers how)
{
    int status = CADRE_OK, rank = cadre_session_rank(session);
    cadre_ddp *ddp = NULL;
    ct_module *models[2];
    double values[2][3];
    for (int i = 0; i < 2; i++) {
        ct_manual_seed(8);
        models[i] = CT_SEQUENTIAL(ct_nn_conv2d(2, 3, 3, NULL), ct_nn_batch_norm2d(3));
    }
    TRY(cadre_ddp_new(&ddp, models[1], cadre_session_comm(session), &(cadre_ddp_options){.buffers = how}));
    for (int i = 0; i < 2; i++) {
        ct_tensor *x, *y, *loss;
        ct_scope_begin();
        ct_manual_seed(20 + (uint64_t)rank);
        TRY_TORCH(ct_tensor_randn(CT_SHAPE(4, 2, 6, 6), CT_FLOAT32, NULL, &x));
        TRY_TORCH(ct_module_forward(models[i], x, &y));
        TRY_TORCH(ct_sum(y, &loss));
        TRY(i == 0 ? ct_backward(loss, 1.0) == CT_OK ? CADRE_OK : CADRE_ETORCH : cadre_ddp_backward(ddp, loss));
        ct_scope_end();
    }
    static const char *const names[] = {"1.running_mean", "1.running_var"};
    for (int n = 0; n < 2; n++) {
        TRY(read_buffer(models[0], names[n], values[0]));
        TRY(read_buffer(models[1], names[n], values[1]));
        if (how == CADRE_BUFFERS_BROADCAST)
            TRY(cadre_broadcast(cadre_session_comm(session), values[0], 3, CADRE_FLOAT64, 0));
        if (how == CADRE_BUFFERS_MEAN)
            TRY(cadre_all_reduce(cadre_session_comm(session), values[0], 3, CADRE_FLOAT64, CADRE_MEAN));
        for (int k = 0; k < 3; k++)
            EXPECT(fabs(values[0][k] - values[1][k]) <= 1e-6 * (fabs(values[0][k]) + 0.1));
    }
    if (how == CADRE_BUFFERS_OWN) { /* different until asked for */
        TRY(cadre_ddp_sync_buffers(ddp));
        TRY(cadre_broadcast(cadre_session_comm(session), values[0], 3, CADRE_FLOAT64, 0));
        TRY(read_buffer(models[1], names[1], values[1]));
        EXPECT(memcmp(values[0], values[1], sizeof values[0]) == 0);
    }
done:
    cadre_ddp_free(ddp);
    ct_module_free(models[0]);
    ct_module_free(models[1]);
    return status;
}

static int buffers(cadre_session *session, const cadre_config *config, void *user)
{
    int status = CADRE_OK;
    (void)config, (void)user;
    for (int how = CADRE_BUFFERS_OWN; how <= CADRE_BUFFERS_MEAN && status == CADRE_OK; how++)
        status = check_buffers(session, (cadre_ddp_buffers)how);
    return status;
}

/* ---- shards ------------------------------------------------------------------------------------------------------------------ */

static int make_optim(ct_module *module, int which, ct_optim **optim)
{
    ct_status made = which == 0 ? ct_sgd_new(module, &(ct_sgd_options){.lr = 0.1, .momentum = 0.9, .weight_decay = 0.01}, optim)
                                : ct_adamw_new(module, &(ct_adam_options){.lr = 0.01}, optim);
    return made == CT_OK ? CADRE_OK : cadre_fail(CADRE_ETORCH, "%s", ct_error_message());
}

static int64_t state_elements(const ct_optim *optim)
{
    int64_t count = 0;
    for (size_t i = 0; i < ct_optim_state_count(optim); i++) {
        const char *name;
        ct_tensor *tensor;
        if (ct_optim_state_at(optim, i, &name, &tensor) == CT_OK && strcmp(name, "step") != 0)
            count += ct_tensor_numel(tensor);
    }
    return count;
}

/* A step in `parts` passes of which the last one syncs, clipped at `most` unless that is 0. */
static int step_in_parts(cadre_session *session, cadre_ddp *ddp, ct_module *model, ct_optim *optim, int64_t step, int parts, double most, double *norm)
{
    int status = CADRE_OK;
    ct_tensor *loss;
    ct_scope_begin();
    TRY_TORCH(ct_module_zero_grad(model, true));
    for (int part = 0; part < parts; part++) {
        TRY(make_loss(model, CT_FLOAT32, (uint64_t)(10 * (step + 100 * part) + cadre_session_rank(session)), &loss));
        TRY(cadre_ddp_no_sync(ddp, part < parts - 1));
        TRY(cadre_ddp_backward(ddp, loss));
    }
    if (most > 0)
        TRY(cadre_ddp_clip_grad_norm(ddp, most, norm));
    TRY(cadre_ddp_step(ddp, optim));
done:
    ct_scope_end();
    return status;
}

static int one_step(cadre_session *session, cadre_ddp *ddp, ct_module *model, ct_optim *optim, int64_t step, double *norm)
{
    return step_in_parts(session, ddp, model, optim, step, 1, 0.5, norm);
}

/* A run, a sharded one, and one that overlaps besides leave the same parameters, on all ranks: the same bits, but that shards add up the norm to
 * clip by in another order. */
static int check_shards(cadre_session *session, int which, cadre_ddp_wire wire, int parts, double most)
{
    enum { WHOLE, SHARDED, OVERLAPPING, WAYS };
    int status = CADRE_OK, world = cadre_session_world(session);
    static double values[WAYS][ROOM];
    size_t count[WAYS];
    double norms[WAYS] = {0};
    int64_t elements[WAYS];
    for (int way = 0; way < WAYS; way++) {
        cadre_ddp *ddp = NULL;
        ct_optim *optim = NULL;
        ct_module *model = make_model(5 + (uint64_t)cadre_session_rank(session), CT_FLOAT32);
        cadre_ddp_options options = {.sharded = way != WHOLE, .overlap = way == OVERLAPPING, .bucket_nbytes = 700, .wire = wire};
        status = cadre_ddp_new(&ddp, model, cadre_session_comm(session), &options);
        if (!status)
            status = make_optim(cadre_ddp_shards(ddp), which, &optim);
        for (int64_t step = 0; step < 6 && !status; step++)
            status = step_in_parts(session, ddp, model, optim, step, parts, most, &norms[way]);
        elements[way] = state_elements(optim);
        ct_optim_free(optim);
        cadre_ddp_free(ddp); /* the parameters are the model's own again */
        if (!status)
            status = read_parameters(model, values[way], ROOM, &count[way]);
        uint64_t hash = cadre_module_hash(model), first = hash;
        ct_module_free(model);
        TRY(status);
        TRY(cadre_broadcast(cadre_session_comm(session), &first, 1, CADRE_INT64, 0));
        EXPECT(first == hash);
    }
    EXPECT(count[WHOLE] == count[SHARDED] && fabs(norms[WHOLE] - norms[SHARDED]) <= 1e-5 * norms[WHOLE]);
    if (most > 0)
        for (size_t i = 0; i < count[WHOLE]; i++)
            EXPECT(fabs(values[WHOLE][i] - values[SHARDED][i]) <= 1e-5 * (fabs(values[WHOLE][i]) + 0.1));
    else
        EXPECT(memcmp(values[WHOLE], values[SHARDED], count[WHOLE] * sizeof values[0][0]) == 0);
    EXPECT(count[OVERLAPPING] == count[SHARDED] && norms[OVERLAPPING] == norms[SHARDED]);
    EXPECT(memcmp(values[OVERLAPPING], values[SHARDED], count[SHARDED] * sizeof values[0][0]) == 0);
    EXPECT(elements[SHARDED] < elements[WHOLE] / world + 16 * 8 * 2 * world && elements[OVERLAPPING] == elements[SHARDED]);
done:
    return status;
}

static int sharded(cadre_session *session, const cadre_config *config, void *user)
{
    int status = CADRE_OK;
    (void)config, (void)user;
    for (int parts = 1; parts <= 3; parts += 2)
        for (int clipped = 0; clipped < 2; clipped++) {
            for (int which = 0; which < 2 && status == CADRE_OK; which++)
                status = check_shards(session, which, CADRE_WIRE_SAME, parts, clipped ? 0.5 : 0);
            if (status == CADRE_OK && cadre_session_world(session) > 1) /* sgd: adam makes much of small differences */
                status = check_shards(session, 0, CADRE_WIRE_BFLOAT16, parts, clipped ? 0.5 : 0);
        }
    return status;
}

/* Killed in the middle and started again, the shards' optimisers go on with what they had. */
static int sharded_resume(cadre_session *session, const cadre_config *config, void *user)
{
    int status = CADRE_OK, rank = cadre_session_rank(session);
    static double values[2][ROOM];
    size_t count[2];
    (void)config, (void)user;
    for (int run = 0; run < 2; run++) { /* the second one is not interrupted */
        cadre_ddp *ddp = NULL;
        ct_optim *optim = NULL;
        cadre_state *state = NULL;
        int64_t begin = 0;
        ct_module *model = make_model(5, CT_FLOAT32);
        TRY(cadre_ddp_new(&ddp, model, cadre_session_comm(session), &(cadre_ddp_options){.sharded = true, .bucket_nbytes = 700}));
        TRY(make_optim(cadre_ddp_shards(ddp), 1, &optim));
        if (run == 0) {
            TRY(cadre_state_new(&state));
            TRY(cadre_state_add_module(state, "model", model));
            TRY(cadre_state_add_sharded_optim(state, "optim", optim));
            TRY(cadre_session_restore(session, state));
            begin = state->step;
            EXPECT((begin > 0) == (cadre_session_attempt(session) > 0));
        }
        for (int64_t step = begin; step < 8; step++) {
            TRY(one_step(session, ddp, model, optim, step, NULL));
            if (run == 0 && step == 5 && rank == 1 && cadre_session_attempt(session) == 0)
                raise(SIGKILL);
            if (run == 0) {
                state->step = step + 1;
                TRY(cadre_report(session, CADRE_METRICS({"step", (double)step, CADRE_REDUCE_NONE, 0}), state));
            }
        }
        TRY(read_parameters(model, values[run], ROOM, &count[run]));
        cadre_state_free(state);
        ct_optim_free(optim);
        cadre_ddp_free(ddp);
        ct_module_free(model);
    }
    EXPECT(memcmp(values[0], values[1], count[0] * sizeof values[0][0]) == 0);
done:
    return status;
}

/* Whatever rides apart from the buckets: the wish to leave reaches all in the same step. */
static int sharded_wish(cadre_session *session, const cadre_config *config, void *user)
{
    int status = CADRE_OK, stopped = CADRE_OK;
    int64_t steps = 0, most;
    (void)config, (void)user;
    cadre_ddp *ddp = NULL;
    ct_optim *optim = NULL;
    ct_module *model = make_model(9, CT_FLOAT32);
    TRY(cadre_ddp_new(&ddp, model, cadre_session_comm(session), &(cadre_ddp_options){.sharded = true}));
    TRY(make_optim(cadre_ddp_shards(ddp), 0, &optim));
    while (stopped != CADRE_STOP && steps < 50) {
        if (steps == 3 && cadre_session_rank(session) == 1)
            raise(SIGUSR1);
        TRY(one_step(session, ddp, model, optim, steps, NULL));
        TRY(stopped = cadre_step(session, NULL));
        steps++;
    }
    most = steps;
    TRY(cadre_all_reduce(cadre_session_comm(session), &most, 1, CADRE_INT64, CADRE_MAX));
    EXPECT(most == steps && steps < 10);
done:
    ct_optim_free(optim);
    cadre_ddp_free(ddp);
    ct_module_free(model);
    return status;
}

/* ---- the device -------------------------------------------------------------------------------------------------------------- */

/* A model in host memory, a communicator on a GPU (its double). */
static int wrong_device(cadre_session *session, const cadre_config *config, void *user)
{
    (void)config, (void)user;
    cadre_ddp *ddp = NULL;
    ct_module *model = make_model(5, CT_FLOAT32);
    int status = cadre_comm_device(cadre_session_comm(session)) == cadre_session_rank(session)
                     ? cadre_ddp_new(&ddp, model, cadre_session_comm(session), NULL)
                     : cadre_fail(CADRE_ETRAIN, "the communicator is on GPU %d", cadre_comm_device(cadre_session_comm(session)));
    cadre_ddp_free(ddp);
    ct_module_free(model);
    return status;
}

/* ---- a rank that is late ----------------------------------------------------------------------------------------------------- */

/* The last one takes its time in a pass: whoever waits for it says for whom, and for which bucket and parameters; and counts the time as that. */
static int stalled(cadre_session *session, const cadre_config *config, void *user)
{
    int status = CADRE_OK, late = cadre_session_rank(session) == cadre_session_world(session) - 1;
    (void)config, (void)user;
    cadre_ddp *ddp = NULL;
    cadre_ddp_statistics stats;
    ct_tensor *loss;
    ct_module *model = make_model(5, CT_FLOAT32);
    ct_scope_begin();
    TRY(cadre_ddp_new(&ddp, model, cadre_session_comm(session), &(cadre_ddp_options){.bucket_nbytes = 700}));
    TRY(make_loss(model, CT_FLOAT32, 1, &loss));
    if (late)
        usleep(1500000);
    TRY(cadre_ddp_backward(ddp, loss));
    TRY(cadre_ddp_stats(ddp, &stats));
    EXPECT(late || stats.late_s > 0.3);
    EXPECT(stats.late_s <= stats.waited_s);
done:
    ct_scope_end();
    cadre_ddp_free(ddp);
    ct_module_free(model);
    return status;
}

static bool stall_was_said(const char *folder)
{
    char path[1024], line[1024];
    bool found = false;
    snprintf(path, sizeof path, "%s/stalled/trial-00000/rank0.log", folder);
    FILE *log = fopen(path, "r");
    while (log && fgets(line, sizeof line, log))
        found |= strstr(line, "of bucket 0 (4.bias ... 2.weight): after") && strstr(line, "still waiting for rank 1 (pid ");
    if (log)
        fclose(log);
    return found;
}

/* ---- the timeline ------------------------------------------------------------------------------------------------------------ */

static int traced(cadre_session *session, const cadre_config *config, void *user)
{
    int status = CADRE_OK;
    (void)config, (void)user;
    cadre_ddp *ddp = NULL;
    ct_optim *optim = NULL;
    cadre_state *state = NULL;
    ct_module *model = make_model(5, CT_FLOAT32);
    TRY(cadre_ddp_new(&ddp, model, cadre_session_comm(session), &(cadre_ddp_options){.bucket_nbytes = 700}));
    TRY(make_optim(cadre_ddp_shards(ddp), 0, &optim));
    TRY(cadre_state_new(&state));
    TRY(cadre_state_add_module(state, "model", model));
    TRY(cadre_session_restore(session, state));
    for (int64_t step = 0; step < 5; step++)
        TRY(one_step(session, ddp, model, optim, step, NULL));
    TRY(cadre_report(session, CADRE_METRICS({"steps", 5, CADRE_REDUCE_NONE, 0}), state));
    if (*(const bool *)user && cadre_session_attempt(session) == 0) { /* what was reported is in the file; what came after may be lost */
        TRY(one_step(session, ddp, model, optim, 5, NULL));
        if (cadre_session_rank(session) == 1)
            raise(SIGKILL);
        TRY(one_step(session, ddp, model, optim, 6, NULL));
    }
done:
    cadre_state_free(state);
    ct_optim_free(optim);
    cadre_ddp_free(ddp);
    ct_module_free(model);
    return status;
}

/* Spans whose names begin so, and how many processes they are of. */
static int spans(const json_t *all, const char *name, int *processes)
{
    int found = 0;
    size_t i;
    json_t *event;
    json_int_t seen[8];
    *processes = 0;
    json_array_foreach(all, i, event)
    {
        json_int_t pid = json_integer_value(json_object_get(event, "pid"));
        if (!json_object_get(event, "dur") || strncmp(json_string_value(json_object_get(event, "name")), name, strlen(name)) != 0)
            continue;
        int k = 0;
        while (k < *processes && seen[k] != pid)
            k++;
        if (k == *processes && k < 8)
            seen[(*processes)++] = pid;
        found++;
    }
    return found;
}

static bool timeline_is_whole(const char *path, bool killed)
{
    static const struct {
        const char *name;
        int spans, processes;
    } wanted[] = {{"backward", 10, 2}, {"optimizer", 10, 2}, {"bucket 0 (4.bias", 10, 2}, {"bucket 1 (", 10, 2}, {"report", 2, 2}, {"checkpoint-", 1, 1}};
    json_t *all = json_load_file(path, 0, NULL);
    bool fine = all != NULL;
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted && fine; i++) {
        int processes, found = spans(all, wanted[i].name, &processes);
        if (killed) /* two attempts, the first of which has perhaps got rid of what came after its report */
            fine = found >= 2 * wanted[i].spans && found <= 4 * wanted[i].spans && processes == 2 * wanted[i].processes;
        else
            fine = found == wanted[i].spans && processes == wanted[i].processes;
        if (!fine)
            printf("%s: %d spans of %d processes\n", wanted[i].name, found, processes);
    }
    json_decref(all);
    return fine;
}

/* ---- the cases ------------------------------------------------------------------------------------------------------------------- */

static const struct test {
    const char *name;
    cadre_train_fn *train;
    int world, attempts;
} tests[] = {
    {"accumulate", accumulate, 2, 1},
    {"wire", wire, 2, 1},
    {"wire_three", wire, 3, 1},
    {"unused_somewhere", unused_somewhere, 2, 1},
    {"unused_three", unused_somewhere, 3, 1},
    {"unused_crossed", unused_crossed, 2, 1},
    {"unused_crossed_three", unused_crossed, 3, 1},
    {"buffers", buffers, 2, 1},
    {"sharded", sharded, 2, 1},
    {"sharded_three", sharded, 3, 1},
    {"sharded_alone", sharded, 1, 1},
    {"sharded_wish", sharded_wish, 2, 1},
    {"sharded_resume", sharded_resume, 2, 2},
    {"stalled", stalled, 2, 1},
    {"timeline", traced, 2, 1},
    {"timeline_killed", traced, 2, 2},
    {"wrong_device", wrong_device, 2, 1},
};

int main(int argc, char **argv)
{
    int failed = 0, ran = 0;
    if (argc < 2) {
        fprintf(stderr, "usage: test_ddp_options FOLDER [CASE]\n");
        return 2;
    }
    setenv("CADRE_STALL_S", "0.4", 1);
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        if (argc > 2 && strcmp(argv[2], tests[i].name) != 0)
            continue;
        cadre_result result;
        cadre_trainer trainer = {.train = tests[i].train, .scaling = {.num_workers = tests[i].world, .timeout_s = 60},
                                 .run = {.name = tests[i].name, .storage = argv[1]}, .failure = {.max_failures = tests[i].attempts - 1}};
        char timeline[1024];
        bool traces = tests[i].train == traced, killed = tests[i].attempts > 1;
        snprintf(timeline, sizeof timeline, "%s/%s.json", argv[1], tests[i].name);
        remove(timeline);
        trainer.user = &killed;
        trainer.run.timeline = traces ? timeline : NULL;
        bool refused = strcmp(tests[i].name, "wrong_device") == 0;
        if (refused && !getenv("CADRE_NCCL"))
            continue; /* ctest names the double there */
        trainer.scaling.device = refused ? "cuda" : NULL;
        int status = cadre_trainer_fit(&trainer, &result);
        bool fine = (refused ? status == CADRE_ENOTSUP && strstr(cadre_error_message(), "is on cpu, the communicator (nccl) reduces on cuda:")
                             : status == CADRE_OK) && result.attempts == tests[i].attempts && result.stopped == (strcmp(tests[i].name, "sharded_wish") == 0) &&
                    (!traces || timeline_is_whole(timeline, killed)) && (tests[i].train != stalled || stall_was_said(argv[1]));
        printf("%-18s %d workers: %s%s%s\n", tests[i].name, tests[i].world, fine ? "fine" : "FAILED", status ? ": " : "", status ? cadre_error_message() : "");
        fflush(stdout);
        failed += !fine;
        ran++;
    }
    return failed || !ran ? 1 : 0;
}
