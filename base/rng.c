#include "rng.h"

#include <math.h>

static void philox(uint32_t counter[4], uint32_t key0, uint32_t key1)
{
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * counter[0];
        uint64_t b = (uint64_t)0xCD9E8D57u * counter[2];
        uint32_t next0 = (uint32_t)(b >> 32) ^ counter[1] ^ key0;
        uint32_t next2 = (uint32_t)(a >> 32) ^ counter[3] ^ key1;
        counter[1] = (uint32_t)b;
        counter[3] = (uint32_t)a;
        counter[0] = next0;
        counter[2] = next2;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
}

void base_rng_init(base_rng *rng, uint64_t seed, uint64_t stream)
{
    *rng = (base_rng){.seed = seed, .stream = stream};
}

uint32_t base_rng_u32(base_rng *rng)
{
    if (rng->left == 0) {
        rng->block[0] = (uint32_t)rng->counter;
        rng->block[1] = (uint32_t)(rng->counter >> 32);
        rng->block[2] = (uint32_t)rng->stream;
        rng->block[3] = (uint32_t)(rng->stream >> 32);
        philox(rng->block, (uint32_t)rng->seed, (uint32_t)(rng->seed >> 32));
        rng->counter++;
        rng->left = 4;
    }
    return rng->block[4 - rng->left--];
}

uint64_t base_rng_u64(base_rng *rng)
{
    uint64_t low = base_rng_u32(rng);
    return low | (uint64_t)base_rng_u32(rng) << 32;
}

double base_rng_uniform(base_rng *rng) { return (double)(base_rng_u64(rng) >> 11) * 0x1p-53; }

uint64_t base_rng_below(base_rng *rng, uint64_t n)
{
    if (n == 0)
        return 0;
    uint64_t reject_below = (0 - n) % n; /* 2^64 mod n: drawing again below it leaves a whole number of n's */
    uint64_t drawn;
    do
        drawn = base_rng_u64(rng);
    while (drawn < reject_below);
    return drawn % n;
}

double base_rng_normal(base_rng *rng)
{
    double radius = sqrt(-2.0 * log(1.0 - base_rng_uniform(rng)));
    return radius * cos(6.283185307179586 * base_rng_uniform(rng));
}

uint64_t base_rng_mix(uint64_t a, uint64_t b)
{
    uint64_t x = a + 0x9E3779B97F4A7C15u * (b + 1); /* SplitMix64's finaliser */
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}
