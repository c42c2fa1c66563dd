/* Any text as a sweep file, and any line as a report: refused with a reason, or taken; what a sweep says is the same after it has been in the store. */
#include "tuner/sweep.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t nbytes);

static void check_report(const char *bytes, size_t nbytes)
{
    command_report report;
    if (command_line_read(bytes, nbytes, &report) != CADRE_OK) {
        if (!*cadre_error_message())
            abort();
        return;
    }
    if (report.count < 1 || report.count > CADRE_MAX_METRICS || report.step < 0)
        abort();
    command_line_free(&report);
}

static void check_again(const char *json, bool good)
{
    sweep_node *tree = NULL;
    sweep *sweep = NULL;
    if (sweep_parse_json(json, "the store", &tree) != CADRE_OK)
        abort();
    char *again = sweep_tree_json(tree);
    if (!again || strcmp(json, again) != 0)
        abort();
    if (good && sweep_new(tree, &sweep) != CADRE_OK)
        abort();
    free(again);
    sweep_close(sweep);
    sweep_free(tree);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t nbytes)
{
    sweep_node *tree = NULL;
    sweep *sweep = NULL;
    check_report((const char *)bytes, nbytes);
    if (sweep_parse_yaml((const char *)bytes, nbytes, "fuzz.yaml", &tree) != CADRE_OK) {
        if (tree || strncmp(cadre_error_message(), "fuzz.yaml:", 10) != 0)
            abort();
        return 0;
    }
    int status = sweep_new(tree, &sweep);
    if (status != CADRE_OK && (sweep || strncmp(cadre_error_message(), "fuzz.yaml:", 10) != 0))
        abort();
    char *json = sweep_tree_json(tree);
    if (json)
        check_again(json, status == CADRE_OK);
    free(json);
    sweep_close(sweep);
    sweep_free(tree);
    return 0;
}
