/* `cadre`: the command line. */
#include "cli.h"

#include "base/buffer.h"
#include "base/error.h"
#include "tuner/sweep_tree.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *usage, *summary, *help;
} commands[] = {
    {"tune", cli_tune, "tune SWEEP.yaml [options]\n       cadre tune --name NAME --metric METRIC --max|--min [options] -- COMMAND [ARGUMENTS]",
     "search the best parameters of any program",
     "  cadre tune --name first -n 50 --metric accuracy --max -- ./prog --lr '~loguniform(1e-4, 1e-1)'\n\n"
     "  In COMMAND, an argument '~loguniform(1e-4, 1e-1)' after an option --lr makes \"lr\" a parameter; so do\n"
     "  '--lr=~loguniform(...)' and, elsewhere, 'lr~loguniform(...)'.\n\n"
     "  --name NAME             of the experiment (default: the sweep file's)\n"
     "  --storage DIR           where experiments are kept (default: runs)\n"
     "  --metric METRIC, --max, --min\n"
     "                          what is to be made best\n"
     "  -n, --num-samples N     trials in all (default: 1, or every combination of the grids once)\n"
     "  --search NAME           auto, random, grid, sobol, halton, tpe, gp, bohb, cmaes; or a map: '{name: tpe, startup: 20}'\n"
     "                          (default: auto)\n"
     "  --scheduler NAME        fifo, asha, hyperband, percentile, median; or a map: '{name: asha, max_t: 27}'\n"
     "  --stop MAP              '{max_iterations: 10, target: 0.99}'\n"
     "  -j, --max-concurrent N  trials at once (default: as many as there are cores)\n"
     "  --cores N, --gpus N     of a trial; parts are possible\n"
     "  --seed N                same seed, same trials (default: 0)\n"
     "  --time-budget TIME      the sweep ends after so long, its lives before a resume counted in: seconds, or 10m, 1.5h\n"
     "  --max-failures N        restarts of a trial that fails (default: 0)\n"
     "  --hang-timeout TIME     a trial that does not report for so long has failed (default: never)\n"
     "  --fail-fast             the first trial that fails ends the sweep\n"
     "  --check                 say whether the sweep is in order, and run nothing\n"
     "  --quiet                 print nothing but errors\n"
     "  --junit FILE            results for CI, a test case a trial\n"
     "  --summary FILE          results as Markdown\n"
     "  --fail-below X, --fail-above X\n"
     "                          exit with 4 when the best value is\n\n"
     "Exit codes: 0 done, 1 failed, 2 called wrongly or a bad sweep, 3 no trial finished, 4 target missed,\n"
     "5 a trial failed (--fail-fast), 130 interrupted.\n"},
    {"resume", cli_resume, "resume RUN [options]", "go on with a sweep that was interrupted, or with more trials",
     "  RUN                     an experiment's name, its directory, or its cadre.db; its unfinished trials go on first\n\n"
     "  -n, --more N            so many trials more than before\n"
     "  --errored               try failed trials again, from their checkpoints\n"
     "  --restart-errored       try failed trials again, from the beginning\n"
     "  --time-budget TIME      for all its lives together, instead of the one it had\n"
     "  -j, --max-concurrent N, --storage DIR, --quiet, --junit FILE, --summary FILE,\n"
     "  --fail-below X, --fail-above X and the exit codes are those of \"cadre tune\".\n"},
    {"best", cli_best, "best RUN [--json | --yaml] [--trial N] [--storage DIR]", "print the best config, to be pasted",
     "  RUN             an experiment's name, its directory, or its cadre.db\n"
     "  --json, --yaml  in that form (default: as options, --lr 0.01)\n"
     "  --trial N       the config of that trial\n"
     "  --storage DIR   where experiments are looked for by name (default: runs)\n"},
    {"export", cli_export, "export RUN [--format csv|jsonl] [-o FILE] [--storage DIR]\n       cadre export RUN --to optuna FILE [--storage DIR]", "write all trials to a file",
     "  RUN                 an experiment's name, its directory, or its cadre.db\n"
     "  --format csv|jsonl  a line a trial (default: csv); jsonl has every report, too\n"
     "  -o, --output FILE   default: standard output\n"
     "  --to optuna FILE    the store as one SQLite file that Optuna reads, also while the run is on\n"
     "  --storage DIR       where experiments are looked for by name (default: runs)\n"},
    {"rm", cli_rm, "rm RUN [--yes] [--storage DIR]", "remove a run with its logs and checkpoints",
     "  RUN            an experiment's name, its directory, or its cadre.db\n"
     "  -y, --yes      do not ask\n"
     "  --storage DIR  where experiments are looked for by name (default: runs)\n"},
    {"report", cli_report, "report METRIC=VALUE... [step=N] [--checkpoint]", "report from a script that runs as a trial",
     "  cadre report loss=0.3 step=5 || exit 0\n\n"
     "  --checkpoint  what the script needs to go on from here is saved in $CADRE_CHECKPOINT_DIR\n\n"
     "Exit codes: 0 go on, 3 the trial is to end, 1 failed, 2 called wrongly.\n"},
    {"ls", cli_ls, "ls [DIR] [--json]", "list the experiments below DIR (default: runs)",
     "  --json  as JSON, for scripts\n"},
    {"show", cli_show, "show RUN [--trial N] [--last N | --all] [--events] [--storage DIR] [--json]",
     "show a run: params, state, attempts, metrics, checkpoints",
     "  RUN            an experiment's name, its directory, or its cadre.db\n"
     "  --trial N      the trial with that number (default: the only one; of several a list)\n"
     "  --last N       the metrics of the last N reports (default: 10)\n"
     "  --all          the metrics of all reports\n"
     "  --events       what happened, in order\n"
     "  --storage DIR  where experiments are looked for by name (default: runs)\n"
     "  --json         as JSON, for scripts; with all reports unless --last is given\n"},
    {"bench", cli_bench, "bench collectives [options]", "measure all-reduce and the others between ranks of this machine, or of mpirun",
     "  --op NAME          all_reduce (default), reduce_scatter, all_gather, broadcast, barrier, or all of them: all\n"
     "  --backend NAME     self, shm, hier, mpi, nccl (default: the best one; \"cadre info\" lists them)\n"
     "  --device NAME      where buffers are: cuda, cuda:1 (default: host memory; with --backend nccl: cuda)\n"
     "  --ranks N          processes to start (default: 2); under mpirun or srun those are taken that there are\n"
     "  -b, --min SIZE; -e, --max SIZE; -f, --factor F\n"
     "                     bytes of the whole buffer (default: from 4K to 128M, by 4)\n"
     "  --type NAME        float32 (default), float64, bfloat16, int32, int64\n"
     "  --reduce NAME      sum (default), mean, min, max, product\n"
     "  --unregistered     buffers in ordinary memory instead of the communicator's\n"
     "  -n, --iterations N timed operations a size (default: what goes into half a second, 10 to 1000)\n"
     "  -w, --warmup N     operations before them (default: 3)\n"
     "  --timeout SECONDS  of an operation (default: 60)\n"
     "  --json             an object a line: op, backend, ranks, size_bytes, count, time_us, algbw_gbs, busbw_gbs, wrong, ...\n\n"
     "Times are of the slowest rank, the median over operations. Sizes and bandwidths are those of nccl-tests; \"wrong\"\n"
     "counts elements that are not what they should be, and with any the exit code is 1.\n"},
    {"logs", cli_logs, "logs RUN [--trial N] [--rank N] [--last N] [-f] [--storage DIR]", "print what the workers of a run printed",
     "  RUN            an experiment's name, its directory, or its cadre.db\n"
     "  --trial N      the trial with that number (default: the newest)\n"
     "  --rank N       that worker's alone (default: all, each line with its rank where there are several)\n"
     "  --last N       the last N lines of each\n"
     "  -f, --follow   go on as more is printed, until the run ends\n"
     "  --storage DIR  where experiments are looked for by name (default: runs)\n\n"
     "A line \"---- attempt N ----\" stands where a group was started again.\n"},
    {"info", cli_info, "info [--json]", "show what is built in and what this machine has",
     "  --json  as JSON, for scripts\n"},
};

enum { COMMANDS = sizeof commands / sizeof *commands };

static void print_help(FILE *out)
{
    fprintf(out, "Cadre %s: distributed training and hyperparameter tuning for C\n\nusage: cadre COMMAND [options]\n\n",
            CADRE_CLI_VERSION);
    for (int i = 0; i < COMMANDS; i++)
        fprintf(out, "  %-7s %s\n", commands[i].name, commands[i].summary);
    fprintf(out, "\n  --help, --version\n\n\"cadre COMMAND --help\" has the options. Exit codes: 0 done, 1 failed, 2 "
                 "called wrongly; \"cadre tune\" has more.\n");
}

int cli_fail(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fputs("cadre: ", stderr);
    cli_vprint(stderr, fmt, args); /* a message may name what is in a store */
    fputc('\n', stderr);
    va_end(args);
    return CLI_FAILED;
}

int cli_misuse(const char *command, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fprintf(stderr, "cadre %s: ", command);
    vfprintf(stderr, fmt, args);
    fprintf(stderr, " (see cadre %s --help)\n", command);
    va_end(args);
    return CLI_MISUSED;
}

static const cli_option *find_option(const cli_option *options, const char *word, size_t length)
{
    for (; options->name; options++)
        if (strlen(options->name) == length && memcmp(options->name, word, length) == 0)
            return options;
    return NULL;
}

/* What was meant by an unknown word, as ": did you mean "--check"?"; nothing where no known one is near. */
static void near_text(const char *word, size_t length, const char *known, char text[100])
{
    const char *near;
    int near_length = length > 2 ? sweep_nearest(word, length, known, &near) : 0;
    text[0] = '\0';
    if (near_length)
        snprintf(text, 100, ": did you mean \"%.*s\"?", near_length, near);
}

static void unknown_option(const char *command, const cli_option *options, const char *word, size_t length)
{
    char near[100] = "";
    base_buffer known = {0};
    int status = CADRE_OK;
    for (const cli_option *one = options; one->name && status == CADRE_OK; one++)
        status = base_buffer_printf(&known, "%s ", one->name);
    if (status == CADRE_OK && known.length)
        near_text(word, length, (const char *)known.data, near);
    cli_misuse(command, "unknown option \"%.*s\"%s", (int)length, word, near);
    base_buffer_free(&known);
}

int cli_options(const char *command, int argc, char **argv, const cli_option *options, const char **words,
                int max_words)
{
    int count = 0;
    bool ended = false;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (!ended && strcmp(word, "--") == 0) {
            ended = true;
            continue;
        }
        if (ended || word[0] != '-' || !word[1]) {
            if (count == max_words) {
                cli_misuse(command, "unexpected argument \"%s\"", word);
                return -1;
            }
            words[count++] = word;
            continue;
        }
        const char *equals = strchr(word, '=');
        size_t length = equals ? (size_t)(equals - word) : strlen(word);
        const cli_option *option = find_option(options, word, length);
        if (!option)
            unknown_option(command, options, word, length);
        else if (option->flag && equals)
            cli_misuse(command, "%s takes no value", option->name);
        else if (option->value && !equals && i + 1 == argc)
            cli_misuse(command, "%s needs a value", option->name);
        else {
            if (option->flag)
                *option->flag = true;
            else
                *option->value = equals ? equals + 1 : argv[++i];
            continue;
        }
        return -1;
    }
    return count;
}

bool cli_number(const char *command, const char *option, const char *text, long least, long *number)
{
    char *end;
    long value = strtol(text, &end, 10);
    if (!*text || *end || value < least) {
        cli_misuse(command, "%s needs a whole number of at least %ld, not \"%s\"", option, least, text);
        return false;
    }
    *number = value;
    return true;
}

/* Wherever it stands among a command's options. */
static bool wants_help(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    return false;
}

/* What was printed must have arrived: a full disk behind a pipe is a failure. */
static int finish(int code)
{
    if (fflush(stdout) != 0 || ferror(stdout))
        return code == CLI_DONE ? cli_fail("cannot write to standard output") : code;
    return code;
}

/* Where one of the three is closed, the next file to be opened would take its place, and what is printed would end up in it. */
static void hold_standard_descriptors(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
            return;
}

static int unknown_command(const char *word)
{
    char known[200] = "", near[100];
    for (int i = 0; i < COMMANDS; i++)
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s ", commands[i].name);
    near_text(word, strlen(word), known, near);
    fprintf(stderr, "cadre: unknown %s \"%s\"%s (see cadre --help)\n", word[0] == '-' ? "option" : "command", word, near);
    return CLI_MISUSED;
}

int main(int argc, char **argv)
{
    hold_standard_descriptors();
    if (argc < 2) {
        print_help(stderr);
        return CLI_MISUSED;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return finish(CLI_DONE);
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("cadre %s\n", CADRE_CLI_VERSION);
        return finish(CLI_DONE);
    }
    for (int i = 0; i < COMMANDS; i++) {
        if (strcmp(argv[1], commands[i].name) != 0)
            continue;
        if (!wants_help(argc - 1, argv + 1))
            return finish(commands[i].run(argc - 1, argv + 1));
        printf("usage: cadre %s\n\n%s\n\n%s", commands[i].usage, commands[i].summary, commands[i].help);
        return finish(CLI_DONE);
    }
    return unknown_command(argv[1]);
}
