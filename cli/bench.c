/* `cadre bench collectives`: options, the ranks, the table. What is measured is in bench_run.c. */
#include "bench.h"
#include "cli.h"

#include "base/error.h"
#include "base/fault.h"
#include "cadre/log.h"
#include "collectives/board.h"
#include "collectives/mpi_oob.h"

#include <ctype.h>
#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static const char command[] = "bench collectives";
static const char *const dtype_names[] = {"float32", "float64", "bfloat16", "int32", "int64", NULL};
static const char *const op_names[] = {"sum", "mean", "min", "max", "product", NULL};

/* ---- options ---- */

struct words {
    const char *operation, *backend, *device, *ranks, *least, *most, *factor, *dtype, *op, *iterations, *warmup,
        *timeout;
    bool unregistered, json;
};

static bool size_of_text(const char *option, const char *text, size_t *nbytes)
{
    char *end;
    double value = strtod(text, &end);
    static const char units[] = "KMGT";
    const char *unit = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;
    for (ptrdiff_t i = unit ? unit - units : -1; i >= 0; i--)
        value *= 1024;
    if (end == text || (*end && (!unit || end[1])) || !(value >= 1 && value <= 1LL << 46)) {
        cli_misuse(command, "%s needs a size like 4096, 64K, 44M or 1G, not \"%s\"", option, text);
        return false;
    }
    *nbytes = (size_t)value;
    return true;
}

static bool index_of(const char *option, const char *const *names, const char *text, int *index)
{
    char known[160] = "";
    for (int i = 0; names[i]; i++) {
        if (strcmp(names[i], text) == 0) {
            *index = i;
            return true;
        }
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", names[i]);
    }
    cli_misuse(command, "%s is one of %s, not \"%s\"", option, known, text);
    return false;
}

static bool read_numbers(const struct words *w, bench_plan *plan)
{
    long ranks = plan->ranks;
    char *end;
    if ((w->ranks && !cli_number(command, "--ranks", w->ranks, 1, &ranks)) ||
        (w->iterations && !cli_number(command, "--iterations", w->iterations, 1, &plan->iterations)) ||
        (w->warmup && !cli_number(command, "--warmup", w->warmup, 0, &plan->warmup)))
        return false;
    if (w->factor) {
        plan->factor = strtod(w->factor, &end);
        if (*end || !(plan->factor > 1 && plan->factor <= 1e6))
            return cli_misuse(command, "--factor needs a number above 1, not \"%s\"", w->factor), false;
    }
    if (w->timeout) {
        plan->timeout_s = strtod(w->timeout, &end);
        if (*end || !(plan->timeout_s > 0 && plan->timeout_s <= 1e6))
            return cli_misuse(command, "--timeout needs seconds, not \"%s\"", w->timeout), false;
    }
    if (ranks > 256 || plan->iterations > 1000000 || plan->warmup > 1000000)
        return cli_misuse(command, "at most 256 ranks and a million iterations"), false;
    plan->ranks = (int)ranks;
    return true;
}

static bool read_plan(const struct words *w, bench_plan *plan)
{
    static const char *names[BENCH_OPERATIONS + 2];
    int operation = BENCH_ALL_REDUCE, dtype = CADRE_FLOAT32, op = CADRE_SUM;
    memcpy(names, bench_operation_names, sizeof bench_operation_names);
    names[BENCH_OPERATIONS] = "all";
    if ((w->operation && !index_of("--op", names, w->operation, &operation)) ||
        (w->dtype && !index_of("--type", dtype_names, w->dtype, &dtype)) ||
        (w->op && !index_of("--reduce", op_names, w->op, &op)) ||
        (w->least && !size_of_text("--min", w->least, &plan->least)) ||
        (w->most && !size_of_text("--max", w->most, &plan->most)) || !read_numbers(w, plan))
        return false;
    if (!w->most && w->least && plan->most < plan->least)
        plan->most = plan->least;
    if (plan->most < plan->least)
        return cli_misuse(command, "--max %s is less than --min %s", w->most, w->least ? w->least : "4K"), false;
    for (int o = 0; o < BENCH_OPERATIONS; o++)
        plan->operations[o] = operation == o || operation == BENCH_OPERATIONS;
    plan->dtype = (cadre_dtype)dtype;
    plan->op = (cadre_op)op;
    plan->backend = w->backend;
    plan->device = w->device ? w->device : w->backend && strcmp(w->backend, "nccl") == 0 ? "cuda" : NULL;
    plan->unregistered = w->unregistered;
    plan->json = w->json;
    return true;
}

/* ---- the table ---- */

static void print_heads(const bench_plan *plan, const char *backend)
{
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    printf(
        "# %s, %d ranks, rank 0 on %s; %s memory, in place; every rank writes its buffer anew before each operation\n",
        backend, plan->ranks, host,
        plan->unregistered ? "ordinary"
        : plan->device     ? "GPU"
                           : "registered");
    printf("#%13s %12s %9s %8s %15s %12s %9s %9s %8s\n", "size", "count", "type", "redop", "operation", "time", "algbw",
           "busbw", "wrong");
    printf("#%13s %12s %9s %8s %15s %12s %9s %9s %8s\n", "(B)", "(elements)", "", "", "", "(us)", "(GB/s)", "(GB/s)",
           "");
}

static void print_row(const bench_row *row, const char *op, const char *dtype)
{
    printf("%14zu %12zu %9s %8s %15s %12.2f %9.2f %9.2f %8lld\n", row->nbytes, row->count, dtype, op,
           bench_operation_names[row->operation], row->seconds * 1e6, row->algbw, row->busbw, (long long)row->wrong);
}

static void print_json(const bench_row *row, const bench_plan *plan, const char *backend, const char *op,
                       const char *dtype)
{
    printf("{\"op\": \"%s\", \"backend\": \"%s\", \"ranks\": %d, \"type\": \"%s\", \"reduce\": \"%s\", \"registered\": "
           "%s, "
           "\"size_bytes\": %zu, \"count\": %zu, \"iterations\": %ld, \"time_us\": %.3f, \"time_min_us\": %.3f, "
           "\"time_max_us\": %.3f, "
           "\"algbw_gbs\": %.4f, \"busbw_gbs\": %.4f, \"wrong\": %lld}\n",
           bench_operation_names[row->operation], backend, plan->ranks, dtype, op,
           plan->unregistered ? "false" : "true", row->nbytes, row->count, row->iterations, row->seconds * 1e6,
           row->least * 1e6, row->most * 1e6, row->algbw, row->busbw, (long long)row->wrong);
}

struct printer {
    const bench_plan *plan;
    int64_t wrong;
};

static void print(const bench_row *row, const char *backend, void *user)
{
    struct printer *printer = user;
    const bench_plan *plan = printer->plan;
    if (!row) {
        if (!plan->json)
            print_heads(plan, backend);
    } else {
        const char *op = row->operation <= BENCH_REDUCE_SCATTER ? op_names[plan->op] : "none";
        const char *dtype = row->operation == BENCH_BARRIER ? "none" : dtype_names[plan->dtype];
        if (plan->json)
            print_json(row, plan, backend, op, dtype);
        else
            print_row(row, op, dtype);
        printer->wrong += row->wrong;
    }
    fflush(stdout);
}

/* ---- the ranks ---- */

/* Where the first rank that fails leaves its words. */
struct verdict {
    atomic_int claimed, rank;
    char text[BASE_ERROR_MAX];
};

/* The exit code of a rank. */
static int be_rank(const bench_plan *plan, const cadre_oob *oob, struct verdict *verdict)
{
    struct printer printer = {.plan = plan};
    cadre_log_set(cadre_log_stderr, NULL, CADRE_LOG_WARN);
    int status = bench_run(plan, oob, print, &printer);
    int unclaimed = 0;
    if (status && atomic_compare_exchange_strong(&verdict->claimed, &unclaimed, 1)) {
        verdict->rank = oob->rank;
        snprintf(verdict->text, sizeof verdict->text, "%s", cadre_error_message());
    }
    if (status)
        return CLI_FAILED;
    if (printer.wrong)
        return cli_fail("%lld elements are wrong", (long long)printer.wrong);
    return ferror(stdout) ? cli_fail("cannot write to standard output") : CLI_DONE;
}

/* Wait for all; `killed` is the first that a signal ended (-1: none). */
static int collect(pid_t *pids, int count, collectives_board *board, int *killed, int *signal)
{
    int code = CLI_DONE;
    *killed = -1;
    for (int left = count; left > 0; left--) {
        int ended, r = 0;
        pid_t pid = waitpid(0, &ended, 0);
        while (r < count && pids[r] != pid)
            r++;
        if (pid < 0 || r == count)
            return cli_fail("lost sight of the ranks");
        if (ended == 0)
            continue;
        collectives_board_gone(board, r);
        if (WIFSIGNALED(ended) && *killed < 0) {
            *killed = r;
            *signal = WTERMSIG(ended);
        }
        code = CLI_FAILED;
    }
    return code;
}

static int fork_ranks(const bench_plan *plan)
{
    struct verdict *verdict = mmap(NULL, sizeof *verdict, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t *pids = calloc((size_t)plan->ranks, sizeof *pids), parent = getpid();
    collectives_board *board = NULL;
    int code = CLI_DONE, forked = 0;
    if (verdict == MAP_FAILED || !pids || collectives_board_new(plan->ranks, &board) != CADRE_OK)
        code = cli_fail("out of memory for %d ranks", plan->ranks);
    fflush(stdout);
    for (; code == CLI_DONE && forked < plan->ranks; forked++) {
        pids[forked] = fork();
        if (pids[forked] < 0) {
            code = cli_fail("cannot start rank %d of %d", forked, plan->ranks);
            for (int r = forked; r < plan->ranks; r++)
                collectives_board_gone(board, r);
            break;
        }
        if (pids[forked] == 0) {
            collectives_seat seat;
            cadre_oob oob;
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() != parent)
                _exit(CLI_FAILED);
            base_fault_set_rank(forked);
            collectives_board_sit(board, forked, &seat, &oob);
            _exit(be_rank(plan, &oob, verdict));
        }
    }
    int killed = -1, signal = 0, ended = forked ? collect(pids, forked, board, &killed, &signal) : CLI_DONE;
    if (code == CLI_DONE && killed >= 0)
        cli_fail("rank %d was killed by signal %d", killed, signal);
    else if (code == CLI_DONE && verdict->claimed)
        cli_fail("%s", verdict->text);
    if (verdict != MAP_FAILED)
        munmap(verdict, sizeof *verdict);
    collectives_board_free(board);
    free(pids);
    return code == CLI_DONE ? ended : code;
}

static int join_ranks(bench_plan *plan)
{
    static struct verdict verdict;
    cadre_oob oob;
    int status = collectives_mpi_join(&oob), code = CLI_FAILED;
    if (status)
        return cli_fail("%s", cadre_error_message());
    plan->ranks = oob.world;
    code = be_rank(plan, &oob, &verdict);
    if (verdict.claimed && oob.rank == 0) /* all fail, most with the same words */
        cli_fail("%s", verdict.text);
    else if (verdict.claimed)
        sleep(1); /* MPI_Abort ends the others, too: let rank 0 speak */
    collectives_mpi_leave(code == CLI_DONE);
    return code;
}

int cli_bench(int argc, char **argv)
{
    struct words w = {0};
    bench_plan plan = {.ranks = 2, .least = 4 << 10, .most = 128 << 20, .factor = 4, .warmup = 3, .timeout_s = 60};
    const cli_option options[] = {{"--op", NULL, &w.operation},
                                  {"--backend", NULL, &w.backend},
                                  {"--device", NULL, &w.device},
                                  {"--ranks", NULL, &w.ranks},
                                  {"-b", NULL, &w.least},
                                  {"--min", NULL, &w.least},
                                  {"-e", NULL, &w.most},
                                  {"--max", NULL, &w.most},
                                  {"-f", NULL, &w.factor},
                                  {"--factor", NULL, &w.factor},
                                  {"--type", NULL, &w.dtype},
                                  {"--reduce", NULL, &w.op},
                                  {"--unregistered", &w.unregistered, NULL},
                                  {"-n", NULL, &w.iterations},
                                  {"--iterations", NULL, &w.iterations},
                                  {"-w", NULL, &w.warmup},
                                  {"--warmup", NULL, &w.warmup},
                                  {"--timeout", NULL, &w.timeout},
                                  {"--json", &w.json, NULL},
                                  {NULL, NULL, NULL}};
    const char *what = NULL;
    int rank, world, count = cli_options("bench", argc, argv, options, &what, 1);
    if (count < 0)
        return CLI_MISUSED;
    if (count == 0 || strcmp(what, "collectives") != 0)
        return cli_misuse("bench", "what is to be measured? There is \"collectives\"");
    if (!read_plan(&w, &plan))
        return CLI_MISUSED;
    if (!collectives_mpi_present(&rank, &world))
        return fork_ranks(&plan);
    if (w.ranks && plan.ranks != world && rank > 0)
        return CLI_MISUSED; /* one line is enough */
    if (w.ranks && plan.ranks != world)
        return cli_misuse(command, "--ranks %d, but it was started with %d", plan.ranks, world);
    return join_ranks(&plan);
}
