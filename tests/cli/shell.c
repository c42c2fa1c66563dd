#include "shell.h"

#include "base/io.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

char place[400] = ".", output[1 << 16];

int run(const char *fmt, ...)
{
    char *words = NULL, *command = NULL;
    va_list args;
    va_start(args, fmt);
    assert_true(vasprintf(&words, fmt, args) >= 0);
    va_end(args);
    assert_true(asprintf(&command, "cd '%s' && PATH=\"$(dirname '%s'):$PATH\" && { %s\n} 2>&1", place, getenv("CADRE_CLI"), words) >= 0);
    FILE *pipe = popen(command, "r");
    free(words);
    free(command);
    assert_non_null(pipe);
    size_t length = fread(output, 1, sizeof output - 1, pipe);
    output[length] = '\0';
    for (char rest[4096]; fread(rest, 1, sizeof rest, pipe) > 0;) /* or it would end by a pipe that nobody reads */
        ;
    int status = pclose(pipe);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

void expect(const char *words)
{
    if (!strstr(output, words))
        fail_msg("\"%s\" is not in:\n%s", words, output);
}

int count(const char *words)
{
    int found = 0;
    for (const char *at = output; (at = strstr(at, words)); at++)
        found++;
    return found;
}

void write_file(const char *name, const char *text, unsigned mode)
{
    char path[500];
    snprintf(path, sizeof path, "%s/%s", place, name);
    assert_int_equal(base_write_file(path, text, strlen(text)), 0);
    assert_int_equal(chmod(path, mode), 0);
}

void script(const char *name, const char *text)
{
    char whole[4096];
    snprintf(whole, sizeof whole, "#!/bin/sh\n%s", text);
    write_file(name, whole, 0700);
}
