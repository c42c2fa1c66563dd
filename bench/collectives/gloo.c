#include "gloo.h"

#include <netinet/in.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static pid_t child;
static FILE *ask, *answer;

/* A port that nobody listens on. */
static int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0), port = 0;
    if (fd >= 0 && bind(fd, (struct sockaddr *)&address, length) == 0 &&
        getsockname(fd, (struct sockaddr *)&address, &length) == 0)
        port = ntohs(address.sin_port);
    if (fd >= 0)
        close(fd);
    return port;
}

static void set_number(const char *name, int number)
{
    char text[16];
    snprintf(text, sizeof text, "%d", number);
    setenv(name, text, 1);
}

static bool spawn(const char *script)
{
    int to[2], from[2];
    if (pipe(to) != 0 || pipe(from) != 0)
        return false;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, to[0], 0);
    posix_spawn_file_actions_adddup2(&actions, from[1], 1);
    for (int i = 0; i < 2; i++) {
        posix_spawn_file_actions_addclose(&actions, to[i]);
        posix_spawn_file_actions_addclose(&actions, from[i]);
    }
    char *const words[] = {"/usr/bin/python3", (char *)script, NULL};
    int failed = posix_spawn(&child, words[0], &actions, NULL, words, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(to[0]);
    close(from[1]);
    ask = fdopen(to[1], "w");
    answer = fdopen(from[0], "r");
    return !failed && ask && answer;
}

bool gloo_start(const cadre_oob *oob, const char *script)
{
    int port = oob->rank == 0 ? free_port() : 0, ready = 0, ports[256], all[256];
    char line[64];
    if (oob->all_gather(oob->user, &port, ports, sizeof port, 60) != CADRE_OK)
        return false;
    setenv("MASTER_ADDR", "127.0.0.1", 1);
    setenv("GLOO_SOCKET_IFNAME", "lo", 1);
    setenv("OMP_NUM_THREADS", "1", 1);
    set_number("MASTER_PORT", ports[0]);
    set_number("RANK", oob->rank);
    set_number("WORLD_SIZE", oob->world);
    ready = spawn(script) && fgets(line, sizeof line, answer) && strcmp(line, "ready\n") == 0;
    if (oob->all_gather(oob->user, &ready, all, sizeof ready, 120) != CADRE_OK)
        return false;
    for (int r = 0; r < oob->world; r++)
        ready = ready && all[r];
    if (!ready && oob->rank == 0)
        fprintf(stderr, "bench_allreduce: Gloo is left out: %s does not come up (python3-torch?)\n", script);
    return ready;
}

double gloo_all_reduce(size_t count)
{
    double seconds;
    char line[64];
    fprintf(ask, "%zu\n", count);
    fflush(ask);
    return fgets(line, sizeof line, answer) && sscanf(line, "%lf", &seconds) == 1 ? seconds : -1;
}

void gloo_stop(void)
{
    if (ask)
        fclose(ask);
    if (child > 0)
        waitpid(child, NULL, 0);
}
