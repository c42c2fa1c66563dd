#include <ctorch.h>
#include <ctorch.h>

extern const char *header_as_c(void);
const char *header_as_c(void) { return ct_status_name(CT_OK); }
