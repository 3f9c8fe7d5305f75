// The attention kernel on a CPU: its own lines, over functions that do what the PTX manual says a warp does.
//
// A thread of the GPU is a coroutine here, which runs until it needs what others hold: a barrier, a shuffle, a matrix.
// Copies into shared memory land when they are waited for, as late as a GPU may let them, or at once, as early as it may;
// shared memory is NaN before.
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#define YOLO12EDGE_DEVICE inline

namespace yolo12edge {

using Half = _Float16;

struct Block {
    int x, y, z;
};

namespace emulated {

constexpr int kMost = 1024;
constexpr size_t kStack = 64 * 1024;

struct Copy {
    Half* to;
    Half from[8];
    int group;
};

struct Coroutine {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    std::vector<Copy> copies;
    int group = 0;
    bool done = false;
};

// A place where `size` threads meet; what each brings lies in `brought` until all have gone on.
struct Meeting {
    int arrived = 0;
    long round = 0;
    struct Brought {
        void const* row;
        uint32_t words[6];
        float number;
    } brought[2][32];
};

Coroutine coroutines[kMost];
ucontext_t outside;
int current, threads, idle;
bool backward;
bool early;  // copies land at once
Block place;
Meeting everyone;
Meeting warps[kMost / 32];
void (*body)();

// Go on with the next lane of this warp, or with the next warp where a whole round of lanes got no further: a warp runs
// as far ahead of the others as barriers let it, and overwrites what they still read if a barrier is missing.
void pass_on() {
    int const mine = current;
    int const step = backward ? -1 : 1;
    int left = 2 * threads;
    do {
        if (left-- == 0) {
            setcontext(&outside);
        }
        int const warp = current / 32 * 32;
        current = ++idle % 33 ? warp + (current + 32 + step) % 32 : (warp + threads + 32 * step) % threads;
    } while (coroutines[current].done);
    if (current != mine) {
        swapcontext(&coroutines[mine].context, &coroutines[current].context);
    }
}

void meet(Meeting& meeting, int size) {
    long const round = meeting.round;
    if (++meeting.arrived == size) {
        meeting.arrived = 0;
        ++meeting.round;
        idle = 0;
    }
    while (meeting.round == round) {
        pass_on();
    }
}

// Show the warp what this lane brings; returns what all 32 brought. Two rounds take turns, for the lanes that lag.
Meeting::Brought const* show(Meeting::Brought const& mine) {
    Meeting& meeting = warps[current / 32];
    auto* const all = meeting.brought[meeting.round % 2];
    all[current % 32] = mine;
    meet(meeting, 32);
    return all;
}

void start() {
    body();
    coroutines[current].done = true;
    pass_on();
}

void run(Block where, int count, void (*what)()) {
    place = where;
    threads = count;
    body = what;
    for (int i = 0; i < threads; ++i) {
        Coroutine& coroutine = coroutines[i];
        if (!coroutine.stack) {
            coroutine.stack = std::make_unique<char[]>(kStack);
        }
        coroutine.copies.clear();
        coroutine.group = 0;
        coroutine.done = false;
        getcontext(&coroutine.context);
        coroutine.context.uc_stack.ss_sp = coroutine.stack.get();
        coroutine.context.uc_stack.ss_size = kStack;
        coroutine.context.uc_link = nullptr;
        makecontext(&coroutine.context, start, 0);
    }
    current = backward ? threads - 1 : 0;
    idle = 0;
    swapcontext(&outside, &coroutines[current].context);
}

uint32_t word(Half low, Half high) {
    uint16_t halves[2];
    std::memcpy(&halves[0], &low, 2);
    std::memcpy(&halves[1], &high, 2);
    return halves[0] | static_cast<uint32_t>(halves[1]) << 16;
}

float number(uint32_t word, int index) {
    uint16_t const bits = static_cast<uint16_t>(word >> (16 * index));
    Half half;
    std::memcpy(&half, &bits, 2);
    return static_cast<float>(half);
}

}  // namespace emulated

inline Block block() { return emulated::place; }
inline int thread() { return emulated::current; }
inline void barrier() { emulated::meet(emulated::everyone, emulated::threads); }
inline float exp2(float value) { return std::exp2f(value); }
inline Half halved(float value) { return static_cast<Half>(value); }
inline uint32_t pack(float low, float high) { return emulated::word(halved(low), halved(high)); }

inline float across(float value, int mask) {
    int const lane = thread() % 32;
    return emulated::show({nullptr, {}, value})[lane ^ mask].number;
}

inline void copy16(Half* to, Half const* from, bool valid) {
    auto& coroutine = emulated::coroutines[thread()];
    emulated::Copy copy{to, {}, coroutine.group};
    if (valid) {
        std::copy_n(from, 8, copy.from);
    }
    if (emulated::early) {
        std::copy_n(copy.from, 8, to);
    } else {
        coroutine.copies.push_back(copy);
    }
}

inline void end_copies() { ++emulated::coroutines[thread()].group; }

template <int kGroups>
void wait_copies() {
    auto& coroutine = emulated::coroutines[thread()];
    std::erase_if(coroutine.copies, [&](emulated::Copy const& copy) {
        bool const lands = copy.group < coroutine.group - kGroups;
        if (lands) {
            std::copy_n(copy.from, 8, copy.to);
        }
        return lands;
    });
}

inline void load_matrices(uint32_t (&registers)[4], Half const* row) {
    int const lane = thread() % 32;
    auto const* const all = emulated::show({row, {}, 0.0f});
    for (int matrix = 0; matrix < 4; ++matrix) {
        auto const* const from = static_cast<Half const*>(all[8 * matrix + lane / 4].row) + lane % 4 * 2;
        registers[matrix] = emulated::word(from[0], from[1]);
    }
}

inline void load_transposed(uint32_t (&registers)[4], Half const* row) {
    int const lane = thread() % 32;
    auto const* const all = emulated::show({row, {}, 0.0f});
    for (int matrix = 0; matrix < 4; ++matrix) {
        auto const element = [&](int k) { return static_cast<Half const*>(all[8 * matrix + k].row)[lane / 4]; };
        registers[matrix] = emulated::word(element(lane % 4 * 2), element(lane % 4 * 2 + 1));
    }
}

// PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type": A (row, k) lies in lane 4 * (row % 8) + k % 8 / 2,
// register row / 8 + k / 8 * 2; B (k, column) in lane 4 * column + k % 8 / 2, register k / 8; C (row, column) in lane
// 4 * (row % 8) + column / 2, register row / 8 * 2 + column % 2.
inline void multiply(float (&sum)[4], uint32_t const (&a)[4], uint32_t b0, uint32_t b1) {
    int const lane = thread() % 32;
    auto const* const all = emulated::show({nullptr, {a[0], a[1], a[2], a[3], b0, b1}, 0.0f});
    for (int i = 0; i < 4; ++i) {
        int const row = lane / 4 + i / 2 * 8;
        int const column = lane % 4 * 2 + i % 2;
        for (int k = 0; k < 16; ++k) {
            auto const& left = all[4 * (row % 8) + k % 8 / 2];
            auto const& right = all[4 * column + k % 8 / 2];
            sum[i] += emulated::number(left.words[row / 8 + k / 8 * 2], k % 2) *
                      emulated::number(right.words[4 + k / 8], k % 2);
        }
    }
}

}  // namespace yolo12edge

#include "attend.cuh"

namespace {

yolo12edge::Shared shared;
yolo12edge::Half const* qkv_map;
yolo12edge::Half* out_map;
int heads_of, area_of, run_of;

template <bool kAligned>
void attend_all(int images) {
    using namespace yolo12edge;
    for (int z = 0; z < images; ++z) {
        for (int y = 0; y < heads_of * area_of; ++y) {
            for (int x = 0; x < (run_of + kQueries - 1) / kQueries; ++x) {
                std::memset(static_cast<void*>(&shared), 0xff, sizeof(shared));
                emulated::run({x, y, z}, kThreads, [] {
                    attend<kAligned>(shared, qkv_map, out_map, heads_of, area_of, run_of);
                });
            }
        }
    }
}

}  // namespace

// `other_order`: the threads run in the opposite order, and copies land early: either order shows what waits for nothing.
extern "C" void emulate(void const* qkv, void* out, int images, int heads, int area, int run, int aligned, int other_order) {
    qkv_map = static_cast<yolo12edge::Half const*>(qkv);
    out_map = static_cast<yolo12edge::Half*>(out);
    heads_of = heads;
    area_of = area;
    run_of = run;
    yolo12edge::emulated::backward = yolo12edge::emulated::early = other_order != 0;
    aligned ? attend_all<true>(images) : attend_all<false>(images);
}
