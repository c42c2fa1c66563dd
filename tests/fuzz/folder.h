/* Where a target keeps its runs: a folder of its own that goes with it, and in it something that no input may touch. */
#ifndef FUZZ_FOLDER_H
#define FUZZ_FOLDER_H

#include "base/io.h"
#include "cadre/status.h"
#include "input.h"

#include <stdio.h>
#include <unistd.h>

static char folder[64], precious[80];

static inline void remove_folder(void) { (void)base_remove_tree(folder); }

static inline void make_folder(void)
{
    snprintf(folder, sizeof folder, "%s/cadre-fuzz-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    must(mkdtemp(folder) != NULL);
    atexit(remove_folder);
    snprintf(precious, sizeof precious, "%s/precious", folder);
    must(base_mkdirs(precious, 0700) == CADRE_OK);
}

#endif
