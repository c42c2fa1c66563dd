#include <ctorch.h>
#include <ctorch.h>

extern const char *header_as_cxx();
const char *header_as_cxx() { return ct_status_name(CT_EINVAL); }
