#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "Train a ResNet on Fashion-MNIST (or any IDX data set) with several workers.\n"
    "\n"
    "    resnet_mnist [options]                   starts its own workers\n"
    "    mpirun -np 2 resnet_mnist [options]      the ranks of mpirun are the workers\n"
    "\n"
    "Model and training\n"
    "  --depth N            8 (16-32-64 channels, the default) or 18 (64 to 512)\n"
    "  --epochs N           passes over the training set (default 6)\n"
    "  --batch N            images a worker and step (default 64)\n"
    "  --logical-workers N  the same bits with any number of workers that divides N: each stands for several\n"
    "  --lr X               highest learning rate, one-cycle schedule (default 0.1)\n"
    "  --momentum X         (default 0.9)\n"
    "  --weight-decay X     (default 5e-4)\n"
    "  --clip X             clip the gradients' norm at X (default 0: do not)\n"
    "  --dtype T            float32, bfloat16, float64 or auto (default auto: bfloat16 where the processor has it)\n"
    "  --contiguous         keep images channel by channel in memory (default: channels last, which is faster)\n"
    "  --seed N             (default 1)\n"
    "\n"
    "Data\n"
    "  --data DIR           directory with the four IDX files, plain or .gz (default: Debian's dataset-fashion-mnist;\n"
    "                       scripts/get-mnist.sh fetches MNIST)\n"
    "  --limit N            use only the first N training images\n"
    "\n"
    "Workers\n"
    "  --workers N          (default 2; all ranks under mpirun)\n"
    "  --launcher L         fork, inproc or mpirun (default: fork, or the ranks there are)\n"
    "  --device D           cpu (the default), or cuda: a GPU for each worker, gradients by NCCL\n"
    "  --backend B          shm, hier, mpi, nccl or self (default: the fastest that works)\n"
    "  --wire T             what float32 gradients travel as: float32 (the default) or bfloat16\n"
    "  --sharded            each worker keeps its part of the optimiser's state (ZeRO-1)\n"
    "  --max-failures N     restarts from the last checkpoint; -1: no limit (default 3)\n"
    "\n"
    "Run\n"
    "  --name NAME          of the experiment (default resnet-mnist)\n"
    "  --storage DIR        (default runs)\n"
    "  --resume             go on with the newest trial of that name\n"
    "  --keep N             checkpoints kept: the newest and the best (default 2; 0: all)\n"
    "  --every-steps N      also save every N steps (default 0: every epoch only)\n"
    "  --timeline FILE      a trace of what each rank did when, for ui.perfetto.dev\n"
    "  --quiet              print nothing but errors\n"
    "  --help               this text\n";

static _Noreturn void mistake(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fputs("resnet_mnist: ", stderr);
    vfprintf(stderr, fmt, args);
    fputs(" (--help lists the options)\n", stderr);
    va_end(args);
    exit(2);
}

static long long whole(const char *option, const char *text, long long lowest, long long highest)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || end == text || *end || value < lowest || value > highest)
        mistake("--%s %s: give a whole number from %lld to %lld", option, text, lowest, highest);
    return value;
}

static double real(const char *option, const char *text)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !isfinite(value) || value < 0)
        mistake("--%s %s: give a number, 0 or more", option, text);
    return value;
}

static const char *one_of(const char *option, const char *text, const char *const *words)
{
    for (const char *const *word = words; *word; word++)
        if (strcmp(text, *word) == 0)
            return text;
    mistake("--%s %s: there is no such one", option, text);
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

struct options options_read(int argc, char **argv)
{
    struct options o = {
        .data = "/usr/share/datasets/fashion-mnist", .dtype = "auto", .depth = 8, .epochs = 6, .batch = 64, .workers = -1, .lr = 0.1, .momentum = 0.9,
        .weight_decay = 5e-4, .seed = 1, .name = "resnet-mnist", .storage = "runs", .launcher = "auto", .device = "cpu", .wire = "float32", .max_failures = 3, .keep = 2,
    };
    static const struct option table[] = {
        {"help", 0, 0, 'h'},       {"depth", 1, 0, 0},      {"epochs", 1, 0, 0},   {"batch", 1, 0, 0},   {"logical-workers", 1, 0, 0},   {"lr", 1, 0, 0},
        {"momentum", 1, 0, 0},     {"weight-decay", 1, 0, 0}, {"clip", 1, 0, 0},   {"dtype", 1, 0, 0},   {"contiguous", 0, 0, 0},
        {"seed", 1, 0, 0},         {"data", 1, 0, 0},       {"limit", 1, 0, 0},    {"workers", 1, 0, 0}, {"launcher", 1, 0, 0},
        {"backend", 1, 0, 0},      {"max-failures", 1, 0, 0}, {"name", 1, 0, 0},   {"storage", 1, 0, 0}, {"resume", 0, 0, 0},
        {"keep", 1, 0, 0},         {"every-steps", 1, 0, 0}, {"quiet", 0, 0, 0}, {"timeline", 1, 0, 0}, {"device", 1, 0, 0},
        {"wire", 1, 0, 0},         {"sharded", 0, 0, 0},    {0, 0, 0, 0},
    };
    int index, found;
    opterr = 0;
    while ((found = getopt_long(argc, argv, "h", table, &index)) != -1) {
        if (found == 'h') {
            fputs(help, stdout);
            exit(0);
        }
        if (found == '?')
            mistake("%s: unknown option, or its value is missing", argv[optind - 1]);
        const char *name = table[index].name;
        if (!strcmp(name, "depth"))
            o.depth = atoi(one_of(name, optarg, WORDS("8", "18")));
        else if (!strcmp(name, "epochs"))
            o.epochs = (int)whole(name, optarg, 1, 1000000);
        else if (!strcmp(name, "logical-workers"))
            o.logical = (int)whole(name, optarg, 1, 4096);
        else if (!strcmp(name, "batch"))
            o.batch = (int)whole(name, optarg, 1, 1000000);
        else if (!strcmp(name, "workers"))
            o.workers = (int)whole(name, optarg, 1, 4096);
        else if (!strcmp(name, "max-failures"))
            o.max_failures = (int)whole(name, optarg, -1, 1000000);
        else if (!strcmp(name, "keep"))
            o.keep = (int)whole(name, optarg, 0, 1000000);
        else if (!strcmp(name, "every-steps"))
            o.every_steps = (int)whole(name, optarg, 0, 1000000000);
        else if (!strcmp(name, "limit"))
            o.limit = whole(name, optarg, 1, INT64_MAX);
        else if (!strcmp(name, "seed"))
            o.seed = (uint64_t)whole(name, optarg, 0, INT64_MAX);
        else if (!strcmp(name, "lr"))
            o.lr = real(name, optarg);
        else if (!strcmp(name, "momentum"))
            o.momentum = real(name, optarg);
        else if (!strcmp(name, "weight-decay"))
            o.weight_decay = real(name, optarg);
        else if (!strcmp(name, "clip"))
            o.clip = real(name, optarg);
        else if (!strcmp(name, "dtype"))
            o.dtype = one_of(name, optarg, WORDS("auto", "float32", "float64", "bfloat16"));
        else if (!strcmp(name, "launcher"))
            o.launcher = one_of(name, optarg, WORDS("auto", "fork", "inproc", "mpirun"));
        else if (!strcmp(name, "data"))
            o.data = optarg;
        else if (!strcmp(name, "backend"))
            o.backend = optarg;
        else if (!strcmp(name, "name"))
            o.name = optarg;
        else if (!strcmp(name, "device"))
            o.device = one_of(name, optarg, WORDS("cpu", "cuda"));
        else if (!strcmp(name, "wire"))
            o.wire = one_of(name, optarg, WORDS("float32", "bfloat16"));
        else if (!strcmp(name, "sharded"))
            o.sharded = 1;
        else if (!strcmp(name, "timeline"))
            o.timeline = optarg;
        else if (!strcmp(name, "storage"))
            o.storage = optarg;
        else if (!strcmp(name, "contiguous"))
            o.contiguous = 1;
        else if (!strcmp(name, "resume"))
            o.resume = 1;
        else if (!strcmp(name, "quiet"))
            o.quiet = 1;
    }
    if (optind < argc)
        mistake("%s: only options are expected", argv[optind]);
    return o;
}
