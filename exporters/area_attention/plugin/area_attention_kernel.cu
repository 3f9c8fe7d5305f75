// Launches the attention kernel.
#include "area_attention_kernel.h"

#include <cstdint>

#include "warp.cuh"
// The kernel stands on what warp.cuh gives.
#include "attend.cuh"

namespace yolo12edge {

template <bool kAligned>
__global__ void __launch_bounds__(kThreads) area_attention(Half const* qkv, Half* out, int heads, int area, int run) {
    __shared__ Shared shared;
    attend<kAligned>(shared, qkv, out, heads, area, run);
}

}  // namespace yolo12edge

extern "C" __attribute__((visibility("default"))) cudaError_t yolo12edge_area_attention(
    void const* qkv, void* out, int images, int heads, int area, int run, cudaStream_t stream) {
    using namespace yolo12edge;
    constexpr int kLargestGrid = 65535;
    constexpr int kMostTokens = INT32_MAX / kChannels;
    if (images < 1 || heads < 1 || area < 1 || run < 1 || images > kLargestGrid || heads > kLargestGrid / area ||
        run > kMostTokens / area) {
        return cudaErrorInvalidValue;
    }
    dim3 const grid((run + kQueries - 1) / kQueries, heads * area, images);
    auto const* const from = static_cast<Half const*>(qkv);
    auto* const to = static_cast<Half*>(out);
    uintptr_t const addresses = reinterpret_cast<uintptr_t>(qkv) | reinterpret_cast<uintptr_t>(out);
    if (run % kVector == 0 && addresses % 16 == 0) {
        area_attention<true><<<grid, kThreads, 0, stream>>>(from, to, heads, area, run);
    } else {
        area_attention<false><<<grid, kThreads, 0, stream>>>(from, to, heads, area, run);
    }
    return cudaGetLastError();
}
