/* XXH3-128 in the form that xxhsum -H128 prints: 32 hexadecimal digits, the high half first. */
#ifndef TRAINER_STATE_HASH_H
#define TRAINER_STATE_HASH_H

#include <stddef.h>

enum { STATE_HASH_TEXT = 33 /* bytes of a hash as text, its end included */ };

/** Hash in pieces; free it with state_hash_free. CADRE_ENOMEM. */
typedef struct state_hash state_hash;
int state_hash_new(state_hash **out);
void state_hash_update(state_hash *hash, const void *bytes, size_t nbytes);
void state_hash_text(const state_hash *hash, char text[STATE_HASH_TEXT]);
void state_hash_free(state_hash *hash);

#endif
