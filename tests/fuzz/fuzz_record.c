/* Any text as a checkpoint's state.json, with its hash and without. */
#include "trainer/state/checkpoint.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t nbytes);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t nbytes)
{
    checkpoint_record record;
    state_scalar value;
    if (checkpoint_record_parse((const char *)bytes, nbytes, &record) == CADRE_OK)
        checkpoint_record_free(&record);
    if (checkpoint_record_parse_body((const char *)bytes, nbytes, &record) != CADRE_OK)
        return 0;
    if (record.info.world < 1 || record.files[0].hash[32] != '\0' || (record.shards && record.index.hash[32] != '\0'))
        abort();
    checkpoint_record_scalar(&record, "rate", STATE_DOUBLE, &value);
    checkpoint_record_scalar(&record, "count", STATE_INT64, &value);
    checkpoint_record_is_local(&record, "own");
    checkpoint_record_free(&record);
    return 0;
}
