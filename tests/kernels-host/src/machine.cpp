// Runs a grid block by block, a block's threads as fibers.

#include <csetjmp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

#include "cuda_runtime.h"

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace host {

thread_local Machine machine;

namespace {

enum State { READY, AT_BARRIER, IN_WARP, DONE };

struct Kernel {
    void (*function)();
    Invoke invoke;
    const char *signature;
};

std::map<std::string, Kernel> &table() {
    static std::map<std::string, Kernel> kernels;
    return kernels;
}

constexpr size_t STACK = 64 << 10;
constexpr unsigned MOST_THREADS = 1024;

size_t page_size() {
    static const size_t size = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    return size;
}

// Memory whose end meets a page that nobody may touch.
struct Guarded {
    unsigned char *map = nullptr;
    size_t mapped = 0, bytes = 0;
    unsigned char *begin = nullptr;

    void make(size_t wanted, size_t alignment) {
        size_t page = page_size(), aligned = (wanted + alignment - 1) / alignment * alignment;
        size_t body = (aligned + page - 1) / page * page;
        release();
        mapped = body + page;
        void *got = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (got == MAP_FAILED) abort();
        map = static_cast<unsigned char *>(got);
        if (mprotect(map + body, page, PROT_NONE)) abort();
        begin = map + body - aligned;
        bytes = aligned;
    }
    void release() {
        if (map) munmap(map, mapped);
        map = nullptr;
    }
};

// A copy that a thread has asked for and not yet waited for: until then its place holds what it held.
struct Copy {
    void *to;
    const void *from;
    bool there;
    unsigned group;
};

struct Copies {
    std::vector<Copy> pending;
    unsigned groups = 0;
};

struct Worker {
    std::vector<Fiber> fibers;
    std::vector<Copies> copies;
    unsigned char *stacks = nullptr;
    void *home = nullptr;
    std::map<const void *, Guarded> arrays;
    Guarded dynamic;
    size_t dynamic_bytes = 0;
    const Kernel *kernel = nullptr;
    void **args = nullptr;
    sigjmp_buf escape;
    volatile bool inside = false;
    const char *failure = nullptr;
    std::vector<unsigned char> signal_stack;
#if !defined(__x86_64__)
    std::vector<ucontext_t> contexts;
    ucontext_t home_context;
#endif

    ~Worker() {
        if (stacks) munmap(stacks, STACK * MOST_THREADS);
        for (auto &array : arrays) array.second.release();
        dynamic.release();
    }
};

thread_local Worker worker;

#if defined(__x86_64__)
// Saves the callee's registers and the stack pointer in *from, takes up those of `to`.
extern "C" void host_switch(void **from, void *to);
asm(R"(
.text
.globl host_switch
.type host_switch, @function
host_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size host_switch, .-host_switch
)");

void go_home() { host_switch(&machine.running->stack_pointer, worker.home); }
void go_to(Fiber &fiber) {
    machine.running = &fiber;
    host_switch(&worker.home, fiber.stack_pointer);
}
#else
void go_home() {
    size_t index = static_cast<size_t>(machine.running - worker.fibers.data());
    swapcontext(&worker.contexts[index], &worker.home_context);
}
void go_to(Fiber &fiber) {
    machine.running = &fiber;
    swapcontext(&worker.home_context, &worker.contexts[static_cast<size_t>(&fiber - worker.fibers.data())]);
}
#endif

void fiber_main() {
    worker.kernel->invoke(worker.kernel->function, worker.args);
    machine.running->state = DONE;
    go_home();
    abort();
}

void prepare(unsigned index) {
    Fiber &fiber = worker.fibers[index];
    uint3 size = machine.block_size;
    fiber.thread = {index % size.x, index / size.x % size.y, index / (size.x * size.y)};
    fiber.state = READY;
    worker.copies[index].pending.clear();
    worker.copies[index].groups = 0;
    unsigned char *top = worker.stacks + STACK * (index + 1);
#if defined(__x86_64__)
    // As after a call: the return address lies at 8 modulo 16, six registers below it.
    void **frame = reinterpret_cast<void **>(top - 16);
    *frame = reinterpret_cast<void *>(fiber_main);
    fiber.stack_pointer = frame - 6;
#else
    ucontext_t &context = worker.contexts[index];
    getcontext(&context);
    context.uc_stack.ss_sp = top - STACK;
    context.uc_stack.ss_size = STACK;
    context.uc_link = nullptr;
    makecontext(&context, fiber_main, 0);
#endif
}

// Lets those lanes of a warp go on whose partners have all come. Says whether any did.
bool resolve(Fiber *warp, unsigned lanes) {
    bool any = false;
    for (unsigned lane = 0; lane < lanes; lane++) {
        if (warp[lane].state != IN_WARP) continue;
        uint32_t mask = warp[lane].mask;
        void *data[32] = {};
        bool complete = true;
        for (unsigned other = 0; other < 32 && complete; other++) {
            if (!(mask >> other & 1)) continue;
            complete = other < lanes && warp[other].state == IN_WARP && warp[other].mask == mask &&
                       warp[other].together == warp[lane].together;
            if (complete) data[other] = warp[other].data;
        }
        if (!complete) continue;
        warp[lane].together(data, mask);
        for (unsigned other = 0; other < lanes; other++)
            if (mask >> other & 1) warp[other].state = READY;
        any = true;
    }
    return any;
}

void run_block(unsigned threads, bool backwards) {
    for (auto &array : worker.arrays) std::memset(array.second.begin, 0xFF, array.second.bytes);
    if (worker.dynamic_bytes) std::memset(worker.dynamic.begin, 0xFF, worker.dynamic.bytes);
    for (unsigned i = 0; i < threads; i++) prepare(i);
    unsigned warps = (threads + 31) / 32;
    while (true) {
        bool moved = false;
        for (unsigned w = 0; w < warps; w++) {
            unsigned number = backwards ? warps - 1 - w : w;
            unsigned lanes = threads - number * 32 < 32 ? threads - number * 32 : 32;
            Fiber *warp = worker.fibers.data() + number * 32;
            do {
                for (unsigned l = 0; l < lanes; l++) {
                    Fiber &fiber = warp[backwards ? lanes - 1 - l : l];
                    if (fiber.state != READY) continue;
                    moved = true;
                    go_to(fiber);
                }
            } while (resolve(warp, lanes));
        }
        unsigned done = 0, waiting = 0;
        for (unsigned i = 0; i < threads; i++) {
            done += worker.fibers[i].state == DONE;
            waiting += worker.fibers[i].state == AT_BARRIER;
        }
        if (done == threads) return;
        if (waiting == threads) {
            for (unsigned i = 0; i < threads; i++) worker.fibers[i].state = READY;
        } else if (waiting + done == threads) {
            fail("some threads of a block wait at a barrier and others have left");
        } else if (!moved) {
            fail("lanes of a warp wait for others that do not come");
        }
    }
}

struct sigaction previous_segv, previous_bus;

void on_fault(int number, siginfo_t *info, void *context) {
    if (worker.inside) {
        worker.failure = "it reads or writes outside of its memory";
        siglongjmp(worker.escape, 1);
    }
    struct sigaction &previous = number == SIGSEGV ? previous_segv : previous_bus;
    if (previous.sa_flags & SA_SIGINFO) {
        previous.sa_sigaction(number, info, context);
    } else {
        signal(number, SIG_DFL);
        raise(number);
    }
}

void watch_faults() {
    static const bool installed = [] {
        struct sigaction action = {};
        action.sa_sigaction = on_fault;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK;
        sigemptyset(&action.sa_mask);
        sigaction(SIGSEGV, &action, &previous_segv);
        sigaction(SIGBUS, &action, &previous_bus);
        return true;
    }();
    (void)installed;
    stack_t current = {};
    sigaltstack(nullptr, &current);
    if (current.ss_flags & SS_DISABLE) {
        worker.signal_stack.resize(64 << 10);
        stack_t own = {};
        own.ss_sp = worker.signal_stack.data();
        own.ss_size = worker.signal_stack.size();
        sigaltstack(&own, nullptr);
    }
}

} // namespace

void enter(const char *name, void (*kernel)(), Invoke invoke, const char *signature) {
    if (!table().emplace(name, Kernel{kernel, invoke, signature}).second) {
        fprintf(stderr, "two kernels are called %s\n", name);
        abort();
    }
}

void fail(const char *what) {
    worker.failure = what;
    siglongjmp(worker.escape, 1);
}

void barrier() {
    machine.running->state = AT_BARRIER;
    go_home();
}

void meet(Together together, uint32_t mask, void *data) {
    Fiber *fiber = machine.running;
    if (!(mask >> (static_cast<size_t>(fiber - worker.fibers.data()) % 32) & 1))
        fail("a lane calls an operation of its warp whose mask leaves it out");
    fiber->together = together;
    fiber->mask = mask;
    fiber->data = data;
    fiber->state = IN_WARP;
    go_home();
}

void *shared(const void *key, size_t bytes, size_t alignment) {
    Guarded &array = worker.arrays[key];
    if (!array.map) {
        array.make(bytes, alignment < 16 ? 16 : alignment);
        std::memset(array.begin, 0xFF, array.bytes);
    }
    return array.begin;
}

void *dynamic_shared() {
    if (!worker.dynamic_bytes) fail("it uses dynamic shared memory and was launched without");
    return worker.dynamic.begin;
}

namespace {
Copies &own_copies() { return worker.copies[static_cast<size_t>(machine.running - worker.fibers.data())]; }
} // namespace

void copy_later(void *to, const void *from, bool there) {
    if ((reinterpret_cast<uintptr_t>(to) | (there ? reinterpret_cast<uintptr_t>(from) : 0)) % 16)
        fail("an asynchronous copy does not begin on 16 bytes");
    Copies &own = own_copies();
    own.pending.push_back({to, from, there, own.groups});
}

void end_copies() { own_copies().groups++; }

void await_copies(int groups) {
    Copies &own = own_copies();
    size_t kept = 0;
    for (Copy &copy : own.pending) {
        if (copy.group + static_cast<unsigned>(groups) >= own.groups) {
            own.pending[kept++] = copy;
        } else if (copy.there) {
            std::memcpy(copy.to, copy.from, 16);
        } else {
            std::memset(copy.to, 0, 16);
        }
    }
    own.pending.resize(kept);
}

} // namespace host

using namespace host;

extern "C" {

// The letters of a kernel's arguments: p pointer, u and l unsigned of 32 and 64 bits, f float; null for no kernel.
const char *kernels_host_signature(const char *name) {
    auto found = table().find(name);
    return found == table().end() ? nullptr : found->second.signature;
}

// Calls `each` with the name of every kernel.
void kernels_host_names(void (*each)(void *context, const char *name), void *context) {
    for (auto &kernel : table()) each(context, kernel.first.c_str());
}

// Null when the grid ran to its end, else what went wrong. `backwards` runs blocks and threads from the last.
const char *kernels_host_launch(const char *name, const uint32_t *grid, const uint32_t *block, uint32_t shared_bytes,
                                void **args, int backwards) {
    auto found = table().find(name);
    if (found == table().end()) return "no kernel has this name";
    uint64_t threads = uint64_t{block[0]} * block[1] * block[2];
    if (threads == 0 || threads > MOST_THREADS) return "a block has 1 to 1024 threads";
    if (grid[0] == 0 || grid[1] == 0 || grid[2] == 0) return "the grid is empty";
    if (grid[1] > 65535 || grid[2] > 65535) return "y and z of a grid end at 65535";
    if (shared_bytes > 232448) return "a block has at most 227 KiB of shared memory";
    if (worker.inside) return "a kernel cannot launch another";
    watch_faults();
    if (!worker.stacks) {
        void *got = mmap(nullptr, STACK * MOST_THREADS, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (got == MAP_FAILED) return "there is no memory for the threads' stacks";
        worker.stacks = static_cast<unsigned char *>(got);
        worker.fibers.resize(MOST_THREADS);
        worker.copies.resize(MOST_THREADS);
#if !defined(__x86_64__)
        worker.contexts.resize(MOST_THREADS);
#endif
    }
    if (shared_bytes != worker.dynamic_bytes) {
        if (shared_bytes) worker.dynamic.make(shared_bytes, 128);
        worker.dynamic_bytes = shared_bytes;
    }
    // Arrays of other kernels are not this one's.
    for (auto &array : worker.arrays) array.second.release();
    worker.arrays.clear();
    worker.kernel = &found->second;
    worker.args = args;
    machine.block_size = {block[0], block[1], block[2]};
    machine.grid_size = {grid[0], grid[1], grid[2]};
    worker.failure = nullptr;
    if (sigsetjmp(worker.escape, 1) == 0) {
        worker.inside = true;
        uint64_t blocks = uint64_t{grid[0]} * grid[1] * grid[2];
        for (uint64_t b = 0; b < blocks; b++) {
            uint64_t at = backwards ? blocks - 1 - b : b;
            machine.block = {static_cast<unsigned>(at % grid[0]), static_cast<unsigned>(at / grid[0] % grid[1]),
                             static_cast<unsigned>(at / (uint64_t{grid[0]} * grid[1]))};
            run_block(static_cast<unsigned>(threads), backwards != 0);
        }
    }
    worker.inside = false;
    return worker.failure;
}
}
