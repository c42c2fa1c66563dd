#include "cli.h"

#include "base/error.h"
#include "base/io.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool is_file(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

/* 0 when there is no store in `directory`. */
static int found_in(const char *directory, int (*found)(const char *path, void *user), void *user)
{
    char *path = base_path_join(directory, "cadre.db");
    if (!path)
        return CADRE_ENOMEM;
    int answer = is_file(path) ? found(path, user) : 0;
    free(path);
    return answer;
}

int cli_each_store(const char *directory, int (*found)(const char *path, void *user), void *user)
{
    struct dirent **entries;
    int count = scandir(directory, &entries, NULL, alphasort);
    if (count < 0)
        return base_errno(errno, "%s", directory);
    int answer = found_in(directory, found, user);
    for (int i = 0; i < count; i++) {
        const char *name = entries[i]->d_name;
        char *below = answer == 0 && name[0] != '.' ? base_path_join(directory, name) : NULL;
        if (below)
            answer = found_in(below, found, user);
        free(below);
        free(entries[i]);
    }
    free(entries);
    return answer;
}

/* `path` when it is a file, the store in it when it is a directory; else NULL, and it is freed. */
static char *store_at(char *path)
{
    if (path && is_file(path))
        return path;
    char *inside = path ? base_path_join(path, "cadre.db") : NULL;
    free(path);
    if (inside && is_file(inside))
        return inside;
    free(inside);
    return NULL;
}

/* Is it that we may not look? */
static bool denied(const char *run, const char *storage)
{
    bool denied = false;
    for (int i = 0; i < 2; i++) {
        struct stat info;
        char *path = i ? base_sprintf("%s/cadre.db", run) : base_sprintf("%s/%s/cadre.db", storage, run);
        denied = denied || (path && stat(path, &info) != 0 && errno == EACCES);
        free(path);
    }
    return denied;
}

char *cli_find_store(const char *run, const char *storage)
{
    /* A name first: a directory of the same name where one happens to stand is not what was meant. */
    char *path = *run && !strchr(run, '/') ? store_at(base_path_join(storage, run)) : NULL;
    if (!path && *run)
        path = store_at(base_strdup(run));
    if (!path && denied(run, storage))
        cli_fail("no run \"%s\" that you may read: permission denied", run);
    else if (!path && strchr(run, '/'))
        cli_fail("no run \"%s\": neither it nor %s/cadre.db is a store", run, run);
    else if (!path)
        cli_fail("no run \"%s\": neither %s/%s/cadre.db nor %s/cadre.db is there", run, storage, run, *run ? run : ".");
    return path;
}
