#include "tuner/space_arena.h"

#include "base/mem.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

struct tuner_block {
    struct tuner_block *next;
    alignas(max_align_t) unsigned char bytes[];
};

void *tuner_arena_take(tuner_arena *arena, size_t count, size_t size)
{
    struct tuner_block *block = base_calloc(1, sizeof *block + count * size);
    if (!block)
        return NULL;
    block->next = arena->blocks;
    arena->blocks = block;
    return block->bytes;
}

char *tuner_arena_string(tuner_arena *arena, const char *text)
{
    size_t nbytes = strlen(text) + 1;
    char *copy = tuner_arena_take(arena, nbytes, 1);
    return copy ? memcpy(copy, text, nbytes) : NULL;
}

void tuner_arena_free(tuner_arena *arena)
{
    while (arena->blocks) {
        struct tuner_block *next = arena->blocks->next;
        free(arena->blocks);
        arena->blocks = next;
    }
}
