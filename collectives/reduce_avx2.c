/* The kernels once more, compiled with -mavx2 (see CMakeLists.txt). */
#define KERNELS collectives_kernels_avx2
#include "reduce_kernels.c"
