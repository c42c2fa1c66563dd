/* A store edited by hand, as a fuzzer's bytes say. */
#ifndef FUZZ_EDIT_H
#define FUZZ_EDIT_H

#include "input.h"

#include <sqlite3.h>
#include <stdbool.h>

/** What the input says becomes of the file `bytes` (of a store at rest): its rows and tables are changed, then perhaps single bytes, its length
 * and what lies beside it. Written to `path`. */
void edit_store(fuzz_input *in, const unsigned char *bytes, size_t nbytes, const char *path);

#endif
