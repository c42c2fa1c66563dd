/* Memory that is freed in one go: what a compiled space and a parsed parameter are made of. */
#ifndef TUNER_SPACE_ARENA_H
#define TUNER_SPACE_ARENA_H

#include <stddef.h>

typedef struct tuner_arena {
    struct tuner_block *blocks;
} tuner_arena;

/** `count` zeroed elements of `size` bytes; NULL with the error message set when there is no memory. */
void *tuner_arena_take(tuner_arena *arena, size_t count, size_t size);
char *tuner_arena_string(tuner_arena *arena, const char *text);
void tuner_arena_free(tuner_arena *arena);

#endif
