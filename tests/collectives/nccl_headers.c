/*
 * The declarations of collectives/nccl/library.h against the real headers: compiled where those are, never run. The
 * functions are declared there once more, with the real types in place of ours, and compared with the real ones.
 */
#define NCCL_REAL_TYPES
#include <cuda_runtime_api.h>
#include <nccl.h>

typedef ncclResult_t nccl_result;
typedef ncclDataType_t nccl_dtype;
typedef ncclRedOp_t nccl_op;
typedef ncclComm_t nccl_comm;
typedef ncclUniqueId nccl_unique_id;
typedef ncclConfig_t nccl_config_argument;
typedef cudaError_t cuda_error;
typedef enum cudaMemcpyKind cuda_copy_kind;
typedef cudaStream_t cuda_stream;
typedef cudaEvent_t cuda_event;
#define CUDA_POINTER_ARGUMENT struct cudaPointerAttributes

#include "collectives/nccl/library.h"

#define SAME(field, symbol, type, arguments)                                                                           \
    _Static_assert(__builtin_types_compatible_p(__typeof__(((struct TABLE *)0)->field), __typeof__(&symbol)), #symbol);
#define TABLE nccl_library
NCCL_FUNCTIONS(SAME)
#undef TABLE
#define TABLE cuda_library
CUDA_FUNCTIONS(SAME)

#define OURS(name, value)                _Static_assert((int)(name) == (int)(value), #name);
#define SAME_CONSTANT(name, real, value) OURS(real, value)
NCCL_CONSTANTS(SAME_CONSTANT)
OURS(sizeof(ncclUniqueId), NCCL_UNIQUE_ID)
/* Enumerations pass as int, structs have their parts where ours have them. */
OURS(sizeof(ncclResult_t), sizeof(int))
OURS(sizeof(ncclDataType_t), sizeof(int))
OURS(sizeof(ncclRedOp_t), sizeof(int))
OURS(sizeof(cudaError_t), sizeof(int))
OURS(offsetof(ncclConfig_t, size), offsetof(struct nccl_config, size))
OURS(offsetof(ncclConfig_t, magic), offsetof(struct nccl_config, magic))
OURS(offsetof(ncclConfig_t, version), offsetof(struct nccl_config, version))
OURS(offsetof(ncclConfig_t, blocking), offsetof(struct nccl_config, blocking))
OURS(offsetof(struct cudaPointerAttributes, type), 0)
OURS(offsetof(struct cudaPointerAttributes, device), 4)
_Static_assert(sizeof(struct cudaPointerAttributes) <= 88, "what the runtime writes has to fit into ours");
