/*
 * Memory of CPU tensors.
 *
 * A training step frees nearly all it allocates. By default those megabytes go back to the kernel and come back as page
 * faults, one for every 4 KiB, in every step. This allocator keeps them, in segments for which huge pages are asked (fewer
 * misses of the address cache). It is a two-level segregated fit (Masmano et al. 2004): constant time, blocks split and
 * merged again, so what one step leaves fits the next.
 *
 * Fork: the lock is held over it, so a child finds the lists whole.
 */
#include "internal.h"

#include <c10/core/CPUAllocator.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <mutex>
#include <new>

#include <pthread.h>
#include <sys/mman.h>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace {

constexpr size_t unit = 64; /* alignment of tensors: a cache line, an AVX-512 register */
constexpr size_t huge_page = size_t{2} << 20;
constexpr size_t segment_size = size_t{64} << 20;
constexpr size_t largest = std::numeric_limits<size_t>::max() / 4;

/* Before every block; blocks of a segment follow one another, the last is a header of size 0. */
struct alignas(unit) Block {
    size_t size;     /* with this header */
    Block *previous; /* in the segment; null: the first */
    Block *next_free, *last_free;
    bool free;

    Block *next() { return reinterpret_cast<Block *>(reinterpret_cast<char *>(this) + size); }
    void *memory() { return this + 1; }
};
static_assert(sizeof(Block) == unit, "a header is one unit");

class Heap {
  public:
    void *allocate(size_t nbytes)
    {
        if (nbytes > largest)
            return nullptr;
        const size_t size = (nbytes + unit - 1) / unit * unit + sizeof(Block);
        std::lock_guard<std::mutex> guard(lock_);
        Block *block = take(size);
        if (!block && !grow(size)) {
            release_locked();
            if (!grow(size))
                return nullptr;
        }
        if (!block)
            block = take(size);
        if (block->size >= size + 2 * sizeof(Block)) {
            Block *rest = new (reinterpret_cast<char *>(block) + size) Block{block->size - size, block, nullptr, nullptr, true};
            rest->next()->previous = rest;
            block->size = size;
            put(rest);
        }
        return block->memory();
    }

    void free(void *memory)
    {
        Block *block = static_cast<Block *>(memory) - 1;
        std::lock_guard<std::mutex> guard(lock_);
        block->free = true;
        Block *next = block->next();
        if (next->free) {
            remove(next);
            block->size += next->size;
        }
        Block *previous = block->previous;
        if (previous && previous->free) {
            remove(previous);
            previous->size += block->size;
            block = previous;
        }
        block->next()->previous = block;
        put(block);
    }

    /* Gives segments that are free as a whole back to the kernel. */
    void release()
    {
        std::lock_guard<std::mutex> guard(lock_);
        release_locked();
    }

    void lock() { lock_.lock(); }
    void unlock() { lock_.unlock(); }

  private:
    static constexpr size_t bins = 448;
    std::mutex lock_;
    Block *lists_[bins] = {};
    uint64_t filled_[bins / 64] = {};

    /* The list of blocks of this size: eight to every power of two. */
    static size_t bin_of(size_t size)
    {
        const size_t units = size / unit;
        if (units < 8)
            return units;
        const size_t power = 63 - static_cast<size_t>(__builtin_clzll(units));
        return (power - 2) * 8 + ((units >> (power - 3)) & 7);
    }

    /* The first list all of whose blocks are large enough. */
    static size_t bin_for(size_t size)
    {
        const size_t units = size / unit;
        if (units < 8)
            return units;
        const size_t power = 63 - static_cast<size_t>(__builtin_clzll(units));
        return bin_of((units + (size_t{1} << (power - 3)) - 1) * unit);
    }

    void put(Block *block)
    {
        const size_t bin = bin_of(block->size);
        block->last_free = nullptr;
        block->next_free = lists_[bin];
        if (lists_[bin])
            lists_[bin]->last_free = block;
        lists_[bin] = block;
        filled_[bin / 64] |= uint64_t{1} << bin % 64;
    }

    void remove(Block *block)
    {
        const size_t bin = bin_of(block->size);
        if (block->next_free)
            block->next_free->last_free = block->last_free;
        if (block->last_free)
            block->last_free->next_free = block->next_free;
        else if (!(lists_[bin] = block->next_free))
            filled_[bin / 64] &= ~(uint64_t{1} << bin % 64);
    }

    Block *take(size_t size)
    {
        const size_t bin = bin_for(size);
        uint64_t word = filled_[bin / 64] & (~uint64_t{0} << bin % 64);
        for (size_t i = bin / 64;;) {
            if (word) {
                Block *block = lists_[i * 64 + static_cast<size_t>(__builtin_ctzll(word))];
                remove(block);
                block->free = false;
                return block;
            }
            if (++i == bins / 64)
                return nullptr;
            word = filled_[i];
        }
    }

    bool grow(size_t size)
    {
        /* An eighth more, so that the block is found in the list that bin_for names. */
        size_t wanted = size + size / 8 + 2 * sizeof(Block);
        wanted = wanted < segment_size ? segment_size : (wanted + huge_page - 1) / huge_page * huge_page;
        char *start = static_cast<char *>(
            mmap(nullptr, wanted + huge_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
        if (start == MAP_FAILED)
            return false;
        const size_t before = (huge_page - reinterpret_cast<uintptr_t>(start) % huge_page) % huge_page;
        if (before)
            munmap(start, before);
        if (before < huge_page)
            munmap(start + before + wanted, huge_page - before);
        start += before;
#if defined(MADV_HUGEPAGE)
        madvise(start, wanted, MADV_HUGEPAGE); /* a wish */
#endif
        Block *block = new (start) Block{wanted - sizeof(Block), nullptr, nullptr, nullptr, true};
        new (block->next()) Block{0, block, nullptr, nullptr, false};
        put(block);
        return true;
    }

    void release_locked()
    {
        for (Block *&list : lists_)
            for (Block *block = list; block;) {
                Block *next = block->next_free;
                if (!block->previous && block->next()->size == 0) {
                    remove(block);
                    munmap(block, block->size + sizeof(Block));
                }
                block = next;
            }
    }
};

/* Never destroyed: tensors may outlive static destructors. */
Heap &heap()
{
    static Heap *instance = new Heap;
    return *instance;
}

void free_block(void *memory)
{
    if (memory)
        heap().free(memory);
}

struct Allocator final : c10::Allocator {
#if CT_TORCH_AT_LEAST(2, 3)
    c10::DataPtr allocate(size_t nbytes) override { return get(nbytes); }
    void copy_data(void *to, const void *from, size_t count) const override { std::memcpy(to, from, count); }
#else
    c10::DataPtr allocate(size_t nbytes) const override { return get(nbytes); }
#endif
    c10::DeleterFnPtr raw_deleter() const override { return free_block; }

  private:
    static c10::DataPtr get(size_t nbytes)
    {
        void *memory = nullptr;
        if (nbytes > 0 && !(memory = heap().allocate(nbytes)))
            throw std::bad_alloc();
        return {memory, memory, free_block, c10::Device(c10::DeviceType::CPU)};
    }
};

void set_tuned(bool on)
{
    static std::once_flag once;
    std::call_once(once, [] {
        heap();
        pthread_atfork([] { heap().lock(); }, [] { heap().unlock(); }, [] { heap().unlock(); });
    });
    static Allocator allocator;
    /* What was allocated by one is freed by the same, so the change may come at any time. */
    c10::SetCPUAllocator(on ? static_cast<c10::Allocator *>(&allocator) : c10::GetDefaultCPUAllocator(), 100);
    if (!on)
        heap().release();
#if defined(__GLIBC__)
    /* For oneDNN's scratch memory and the like, which come from malloc. */
    mallopt(M_MMAP_THRESHOLD, on ? 32 << 20 : 128 << 10);
    mallopt(M_TRIM_THRESHOLD, on ? 1 << 30 : 128 << 10);
#endif
}

__attribute__((constructor)) void tune_at_load()
{
#if !defined(__SANITIZE_ADDRESS__)
    const char *choice = std::getenv("CTORCH_MEMORY");
    if (!choice || std::strcmp(choice, "system") != 0)
        set_tuned(true);
#endif
}

} // namespace

ct_status ct_memory_tune(bool on)
{
    CT_TRY
    {
        set_tuned(on);
        return CT_OK;
    }
    CT_CATCH(status)
}
