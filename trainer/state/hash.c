#include "hash.h"

#include "base/error.h"
#include "base/fault.h"

#include <stdio.h>
#include <xxhash.h>

/* A state_hash is an XXH3_state_t under another name: that one wants 64-byte alignment, which its own allocator sees
 * to. */

int state_hash_new(state_hash **out)
{
    XXH3_state_t *state = BASE_FAULT("alloc") ? NULL : XXH3_createState();
    if (!state)
        return base_error(CADRE_ENOMEM, "out of memory for a hash");
    XXH3_128bits_reset(state);
    *out = (state_hash *)state;
    return CADRE_OK;
}

void state_hash_update(state_hash *hash, const void *bytes, size_t nbytes)
{
    if (nbytes)
        XXH3_128bits_update((XXH3_state_t *)hash, bytes, nbytes);
}

void state_hash_text(const state_hash *hash, char text[STATE_HASH_TEXT])
{
    XXH128_hash_t value = XXH3_128bits_digest((const XXH3_state_t *)hash);
    snprintf(text, STATE_HASH_TEXT, "%016llx%016llx", (unsigned long long)value.high64,
             (unsigned long long)value.low64);
}

void state_hash_free(state_hash *hash)
{
    if (hash)
        XXH3_freeState((XXH3_state_t *)hash);
}
