// What the attention kernel asks of a GPU, each as one function: everything that only a GPU has is in this file.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#define YOLO12EDGE_DEVICE __device__ __forceinline__

namespace yolo12edge {

using Half = __half;

struct Block {
    int x, y, z;
};

YOLO12EDGE_DEVICE Block block() {
    return {static_cast<int>(blockIdx.x), static_cast<int>(blockIdx.y), static_cast<int>(blockIdx.z)};
}

YOLO12EDGE_DEVICE int thread() { return static_cast<int>(threadIdx.x); }

YOLO12EDGE_DEVICE void barrier() { __syncthreads(); }

// The value of the lane whose number differs in the bits of `mask`.
YOLO12EDGE_DEVICE float across(float value, int mask) { return __shfl_xor_sync(0xffffffffu, value, mask); }

YOLO12EDGE_DEVICE float exp2(float value) {
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(value));
    return result;
}

YOLO12EDGE_DEVICE Half halved(float value) { return __float2half_rn(value); }

// Two numbers in one register, `low` in the lower half.
YOLO12EDGE_DEVICE uint32_t pack(float low, float high) {
    __half2 const both = __floats2half2_rn(low, high);
    return *reinterpret_cast<uint32_t const*>(&both);
}

YOLO12EDGE_DEVICE uint32_t shared_address(void const* pointer) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// Put a copy of 16 bytes from global into shared memory under way; zeros if not `valid`.
YOLO12EDGE_DEVICE void copy16(Half* to, Half const* from, bool valid) {
#if __CUDA_ARCH__ >= 800
    int const size = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(size)
                 : "memory");
#else
    *reinterpret_cast<uint4*>(to) = valid ? *reinterpret_cast<uint4 const*>(from) : make_uint4(0, 0, 0, 0);
#endif
}

// End a group of copies.
YOLO12EDGE_DEVICE void end_copies() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Wait for this thread's copies, but for the latest `kGroups` groups.
template <int kGroups>
YOLO12EDGE_DEVICE void wait_copies() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
#endif
}

// Four matrices of 8 x 8; lane i names row i % 8 of matrix i / 8. Of matrix m, lane i gets the elements
// (i / 4, 2 * (i % 4)) and the one right of it, in registers[m].
YOLO12EDGE_DEVICE void load_matrices(uint32_t (&registers)[4], Half const* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// The same of the transposed matrices.
YOLO12EDGE_DEVICE void load_transposed(uint32_t (&registers)[4], Half const* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// sum += a b, of 16 x 16 and 16 x 8 numbers held by the lanes of a warp as PTX lays out mma.m16n8k16.
YOLO12EDGE_DEVICE void multiply(float (&sum)[4], uint32_t const (&a)[4], uint32_t b0, uint32_t b1) {
#if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else  // Turing multiplies half as deep; the layout is that of each half
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(b0));
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[2]), "r"(a[3]), "r"(b1));
#endif
}

}  // namespace yolo12edge
