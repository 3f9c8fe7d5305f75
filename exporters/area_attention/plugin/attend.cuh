// Area attention of one tile of queries, after FlashAttention (Dao et al., NeurIPS 2022): no logit leaves the registers.
//
// Written in terms of the functions of warp.cuh alone, so that a CPU can run these very lines with others in their place.
#pragma once

#include <cstddef>
#include <cstdint>

namespace yolo12edge {

constexpr int kChannels = 32;  // of a head
constexpr int kWarps = 5;
constexpr int kThreads = 32 * kWarps;
constexpr int kQueries = 16 * kWarps;  // of a block. 80 divides the 400 tokens of an image of 640 px without rest,
constexpr int kKeys = 80;              // and the 1600 of one of 1280 px
constexpr int kRow = kKeys + 8;        // halves from channel to channel: eight rows of a matrix touch all 32 banks once
constexpr int kVector = 8;             // halves of a copy
static_assert(kQueries == kKeys, "the three kinds of tiles have one form");

struct alignas(16) Tile {
    Half rows[kChannels * kRow];  // (channel, token), as the map has them
};

struct Shared {
    Tile queries;  // in the end, the result
    Tile keys[2];
    Tile values[2];
};

// Put a tile under way: 32 channels of the tokens from `first` on, zeros from token `run` on.
template <bool kAligned>
YOLO12EDGE_DEVICE void load_tile(Tile& tile, Half const* map, int tokens, int first, int run) {
    constexpr int kVectors = kKeys / kVector;
    for (int i = thread(); i < kChannels * kVectors; i += kThreads) {
        int const channel = i / kVectors;
        int const token = i % kVectors * kVector;
        Half* const to = &tile.rows[channel * kRow + token];
        Half const* const from = map + (channel * tokens + first + token);  // within a head: 32 bits do
        if constexpr (kAligned) {  // of a vector, all tokens are in the run or none
            bool const valid = first + token < run;
            copy16(to, valid ? from : map, valid);
        } else {
#pragma unroll 1  // ragged sizes are rare; unrolled, this loop takes registers from the others
            for (int j = 0; j < kVector; ++j) {
                to[j] = first + token + j < run ? from[j] : halved(0.0f);
            }
        }
    }
}

// Attend with the queries of block (tile of queries, head * area + run, image).
//
// qkv: (images, 3 * heads * 32, area * run), [Q | K | V] with the scale of the logits in Q;
// out: (images, heads * 32, area * run). kAligned: run is a multiple of 8, and both addresses of 16 bytes.
template <bool kAligned>
YOLO12EDGE_DEVICE void attend(Shared& shared, Half const* qkv, Half* out, int heads, int area, int run) {
    constexpr float kLog2e = 1.4426950408889634f;
    int const lane = thread() % 32;
    int const own = thread() / 32 * 16;  // the first of this warp's queries
    int const tokens = area * run;
    int const first_query = block().x * kQueries;
    size_t const map_size = static_cast<size_t>(heads) * kChannels * tokens;
    size_t const within = static_cast<size_t>(block().y / area) * kChannels * tokens + block().y % area * run;
    Half const* const queries = qkv + block().z * 3 * map_size + within;
    Half const* const keys = queries + map_size;
    Half const* const values = keys + map_size;

    load_tile<kAligned>(shared.queries, queries, tokens, first_query, run);
    load_tile<kAligned>(shared.keys[0], keys, tokens, 0, run);
    load_tile<kAligned>(shared.values[0], values, tokens, 0, run);
    end_copies();

    // Where this lane's row begins of the four matrices that make a 16 x 16 one: the second lies to the right.
    int const corner = (lane % 8 + lane / 16 * 8) * kRow + lane / 8 % 2 * 8;
    uint32_t query[2][4];           // 16 queries x 32 channels, in two halves of the channels
    float mixed[kChannels / 8][4];  // 16 queries x 32 channels, in tiles of 8 channels
    for (auto& tile : mixed) {
        tile[0] = tile[1] = tile[2] = tile[3] = 0.0f;
    }
    // Of the two queries whose logits this lane holds: lane / 4, and the one 8 below.
    float largest[2] = {-INFINITY, -INFINITY};
    float total[2] = {0.0f, 0.0f};  // over this lane's keys only, until the end

    int const tiles = (run + kKeys - 1) / kKeys;
    for (int index = 0; index < tiles; ++index) {
        int const now = index % 2;
        int const first_key = index * kKeys;
        if (index + 1 < tiles) {
            load_tile<kAligned>(shared.keys[1 - now], keys, tokens, first_key + kKeys, run);
            load_tile<kAligned>(shared.values[1 - now], values, tokens, first_key + kKeys, run);
            end_copies();
            wait_copies<1>();
        } else {
            wait_copies<0>();
        }
        barrier();
        if (index == 0) {
            load_transposed(query[0], &shared.queries.rows[corner + own]);
            load_transposed(query[1], &shared.queries.rows[16 * kRow + corner + own]);
        }

        float logits[kKeys / 8][4];  // 16 queries x 80 keys, in tiles of 8 keys
#pragma unroll
        for (int i = 0; i < kKeys / 8; ++i) {
            uint32_t key[4];  // 32 channels x 8 keys: lane i names channel i
            load_transposed(key, &shared.keys[now].rows[lane * kRow + i * 8]);
            logits[i][0] = logits[i][1] = logits[i][2] = logits[i][3] = 0.0f;
            multiply(logits[i], query[0], key[0], key[1]);
            multiply(logits[i], query[1], key[2], key[3]);
        }
        if (first_key + kKeys > run) {
#pragma unroll
            for (int i = 0; i < kKeys / 8; ++i) {
#pragma unroll
                for (int j = 0; j < 4; ++j) {
                    if (first_key + i * 8 + lane % 4 * 2 + j % 2 >= run) {
                        logits[i][j] = -INFINITY;
                    }
                }
            }
        }

#pragma unroll
        for (int row = 0; row < 2; ++row) {
            float larger = largest[row];
#pragma unroll
            for (int i = 0; i < kKeys / 8; ++i) {
                larger = fmaxf(larger, fmaxf(logits[i][2 * row], logits[i][2 * row + 1]));
            }
            larger = fmaxf(larger, across(larger, 1));
            larger = fmaxf(larger, across(larger, 2));  // four lanes share a query; every tile has a key, so it is finite
            float const shift = -larger * kLog2e;
            float const shrink = exp2(fmaf(largest[row], kLog2e, shift));
            largest[row] = larger;
            total[row] *= shrink;
#pragma unroll
            for (auto& tile : mixed) {
                tile[2 * row] *= shrink;
                tile[2 * row + 1] *= shrink;
            }
#pragma unroll
            for (int i = 0; i < kKeys / 8; ++i) {
#pragma unroll
                for (int j = 2 * row; j < 2 * row + 2; ++j) {
                    logits[i][j] = exp2(fmaf(logits[i][j], kLog2e, shift));
                    total[row] += logits[i][j];
                }
            }
        }

#pragma unroll
        for (int i = 0; i < kKeys / 16; ++i) {
            // Two tiles of weights, as a product leaves them, are what the next one wants for its left side.
            uint32_t const weights[4] = {
                pack(logits[2 * i][0], logits[2 * i][1]),
                pack(logits[2 * i][2], logits[2 * i][3]),
                pack(logits[2 * i + 1][0], logits[2 * i + 1][1]),
                pack(logits[2 * i + 1][2], logits[2 * i + 1][3]),
            };
#pragma unroll
            for (int j = 0; j < 2; ++j) {
                uint32_t value[4];  // 16 keys x 16 channels
                load_matrices(value, &shared.values[now].rows[j * 16 * kRow + corner + i * 16]);
                multiply(mixed[2 * j], weights, value[0], value[1]);
                multiply(mixed[2 * j + 1], weights, value[2], value[3]);
            }
        }
        barrier();  // before the next copy into this tile
    }

    for (int row = 0; row < 2; ++row) {
        total[row] += across(total[row], 1);
        total[row] += across(total[row], 2);
    }
#pragma unroll
    for (int i = 0; i < kChannels / 8; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            int const channel = i * 8 + lane % 4 * 2 + j % 2;
            int const query_index = own + lane / 4 + j / 2 * 8;
            shared.queries.rows[channel * kRow + query_index] = halved(mixed[i][j] / total[j / 2]);
        }
    }
    barrier();

    Half* const target = out + block().z * map_size + within + first_query;
    if constexpr (kAligned) {
        constexpr int kVectors = kQueries / kVector;
        for (int i = thread(); i < kChannels * kVectors; i += kThreads) {
            int const token = i % kVectors * kVector;
            if (first_query + token < run) {
                struct alignas(16) Vector {
                    Half halves[kVector];
                };
                *reinterpret_cast<Vector*>(target + (i / kVectors * tokens + token)) =
                    *reinterpret_cast<Vector const*>(&shared.queries.rows[i / kVectors * kRow + token]);
            }
        }
    } else {
        for (int i = thread(); i < kChannels * kQueries; i += kThreads) {
            int const token = i % kQueries;
            if (first_query + token < run) {
                target[i / kQueries * tokens + token] =
                    shared.queries.rows[i / kQueries * kRow + token];
            }
        }
    }
}

}  // namespace yolo12edge
