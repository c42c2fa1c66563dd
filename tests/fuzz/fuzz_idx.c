/* Any bytes given to the IDX reader, plain and gzip: it answers an array whose shape and size agree, or ECORRUPT. */
#include "cadre/status.h"
#include "trainer/data/idx_read.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t nbytes);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t nbytes)
{
    data_idx_array array;
    int status = data_idx_read_memory(bytes, nbytes, "fuzz", &array);
    if (status != CADRE_OK) {
        if (status != CADRE_ECORRUPT || !*cadre_error_message())
            abort();
        return 0;
    }
    size_t product = 1;
    volatile unsigned char sum = 0;
    for (int i = 0; i < array.dims; i++)
        product *= (size_t)array.shape[i];
    if (array.dims < 1 || array.dims > DATA_IDX_MAX_DIMS || product != array.nbytes)
        abort();
    for (size_t i = 0; i < array.nbytes; i++)
        sum = (unsigned char)(sum + array.bytes[i]);
    data_idx_array_free(&array);
    return 0;
}
