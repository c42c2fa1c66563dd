/* `cadre rm`: a run and all that belongs to it. */
#include "cli.h"

#include "base/error.h"
#include "base/io.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool ask(const char *directory, int trials)
{
    char answer[16] = "";
    printf("remove %s with %d trials? [y/N] ", directory, trials);
    fflush(stdout);
    return fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

/* A directory that is not the run's alone is not removed, whoever asks: "cadre rm ." where a store happens to lie. */
static int check(const cli_run *run, const char *directory)
{
    const char *base = strrchr(directory, '/');
    if (run->experiments > 1)
        return cli_fail("%s holds %d experiments: remove the file by hand if all of them are to go", run->path, run->experiments);
    if (!base || strcmp(base + 1, run->name) != 0)
        return cli_fail("%s is not a directory of the run's own, which is named \"%s\": remove it by hand", directory, run->name);
    return CLI_DONE;
}

static int remove_run(cli_run *run, const char *directory, bool yes)
{
    int fd = -1, trials = run->count;
    char *path = base_strdup(run->path);
    int code = path ? CLI_DONE : cli_fail("out of memory");
    if (code == CLI_DONE && !yes && !isatty(STDIN_FILENO))
        code = cli_misuse("rm", "nobody is there to be asked: say --yes to remove %s", directory);
    else if (code == CLI_DONE && !yes && !ask(directory, trials))
        code = cli_fail("nothing was removed");
    tracking_close(run->store); /* before it goes */
    run->store = NULL;
    if (code == CLI_DONE && tracking_lock_take(path, path, &fd) != CADRE_OK)
        code = cli_fail("%s", cadre_error_message());
    if (code == CLI_DONE && base_remove_tree(directory) != CADRE_OK)
        code = cli_fail("%s", cadre_error_message());
    if (fd >= 0)
        close(fd);
    free(path);
    return code;
}

int cli_rm(int argc, char **argv)
{
    bool yes = false;
    const char *storage = "runs", *name = NULL;
    const cli_option known[] = {{"--yes", &yes, NULL}, {"-y", &yes, NULL}, {"--storage", NULL, &storage}, {NULL, NULL, NULL}};
    int words = cli_options("rm", argc, argv, known, &name, 1);
    if (words < 0)
        return CLI_MISUSED;
    if (words == 0)
        return cli_misuse("rm", "which run? Name an experiment or its directory");
    cli_run run;
    char owner[512] = "", *directory = NULL;
    int code = cli_run_open(&run, name, storage);
    if (code == CLI_DONE && tracking_lock_held(run.path, owner, sizeof owner))
        code = cli_fail("%s is running: %s", run.path, owner);
    if (code == CLI_DONE)
        code = cli_run_read(&run);
    if (code == CLI_DONE && !(directory = realpath(run.path, NULL)))
        code = cli_fail("%s is gone", run.path);
    if (code == CLI_DONE) {
        *strrchr(directory, '/') = '\0';
        code = check(&run, directory);
    }
    if (code == CLI_DONE)
        code = remove_run(&run, directory, yes);
    free(directory);
    cli_run_close(&run);
    return code;
}
