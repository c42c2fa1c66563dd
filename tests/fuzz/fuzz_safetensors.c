/* Any bytes as a safetensors file: refused, or an index that covers the data exactly. */
#include "trainer/state/safetensors.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t nbytes);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t nbytes)
{
    safetensors_index index;
    if (safetensors_parse(bytes, nbytes, nbytes, &index) != CADRE_OK)
        return 0;
    uint64_t covered = 0;
    for (size_t i = 0; i < index.count; i++) {
        const safetensors_tensor *tensor = &index.tensors[i];
        if (tensor->end < tensor->begin || tensor->end > nbytes - index.data_offset ||
            safetensors_find(&index, tensor->name) != tensor)
            abort();
        covered += tensor->end - tensor->begin;
    }
    if (covered != index.data_nbytes || index.data_offset + covered != nbytes)
        abort();
    safetensors_index_free(&index);
    return 0;
}
