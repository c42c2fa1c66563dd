/* Any text as a config: refused with a reason, or written and read again without a change. */
#include "cadre/config.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t nbytes);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t nbytes)
{
    char *text = malloc(nbytes + 1);
    if (!text)
        return 0;
    if (nbytes)
        memcpy(text, bytes, nbytes);
    text[nbytes] = '\0';
    cadre_config *config = NULL, *again = NULL;
    if (cadre_config_from_json(text, &config) == CADRE_OK) {
        char *first = cadre_config_to_json(config);
        if (!first || cadre_config_from_json(first, &again) != CADRE_OK)
            abort();
        char *second = cadre_config_to_json(again);
        if (!second || strcmp(first, second) != 0 || cadre_config_count(config) != cadre_config_count(again))
            abort();
        free(first);
        free(second);
    } else if (config || !*cadre_error_message())
        abort();
    cadre_config_free(config);
    cadre_config_free(again);
    free(text);
    return 0;
}
