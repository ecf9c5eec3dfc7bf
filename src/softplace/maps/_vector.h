// Vectors of 16, 8 or 4 floats, as the processor has them: loads and stores of float32 and bfloat16, transposes, sums, exp and log. GCC and clang alike.

#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>
#ifdef __SSE__
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX2__)
#define BYTES 32
#else
#define BYTES 16
#endif
typedef float V __attribute__((vector_size(BYTES)));
typedef int32_t I __attribute__((vector_size(BYTES)));
typedef uint32_t U __attribute__((vector_size(BYTES)));
typedef uint16_t H __attribute__((vector_size(BYTES / 2)));
using Index = int64_t;
constexpr int WIDTH = BYTES / 4, SHORT = 64;  // lanes of a vector; longest row that goes into lanes
constexpr float INF = INFINITY;

#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (I){__VA_ARGS__})
#endif

static inline V fill(float x) { return V{} + x; }
static inline V choose(I condition, V yes, V no) { return (V)((condition & (I)yes) | (~condition & (I)no)); }
static inline V larger(V a, V b) { return a > b ? a : b; }  // b where a is NaN
static inline bool any(I condition) {
  int64_t words[BYTES / 8], found = 0;
  memcpy(words, &condition, BYTES);
  for (int i = 0; i < BYTES / 8; i++) found |= words[i];
  return found;
}

using Each = std::make_integer_sequence<int, WIDTH>;
template <int S, int... K> static inline V upper(V a, V b, std::integer_sequence<int, K...>) {
  return SHUFFLE(a, b, ((K & S) ? WIDTH + K - S : K)...);
}
template <int S, int... K> static inline V lower(V a, V b, std::integer_sequence<int, K...>) {
  return SHUFFLE(a, b, ((K & S) ? WIDTH + K : K + S)...);
}
template <int S, int... K> static inline V turn(V a, std::integer_sequence<int, K...>) { return SHUFFLE(a, a, (K ^ S)...); }
template <int S> static inline void swap_blocks(V* a) {
  for (int i = 0; i < WIDTH; i++)
    if (!(i & S)) {
      V first = upper<S>(a[i], a[i + S], Each{});
      a[i + S] = lower<S>(a[i], a[i + S], Each{});
      a[i] = first;
    }
}
static inline void transpose(V* a) {
  swap_blocks<1>(a), swap_blocks<2>(a);
  if constexpr (WIDTH > 4) swap_blocks<4>(a);
  if constexpr (WIDTH > 8) swap_blocks<8>(a);
}

template <bool LANES, class F> static inline V across(V v, F f) {
  if (LANES) return v;
  if constexpr (WIDTH > 8) v = f(v, turn<8>(v, Each{}));
  if constexpr (WIDTH > 4) v = f(v, turn<4>(v, Each{}));
  v = f(v, turn<2>(v, Each{}));
  return f(v, turn<1>(v, Each{}));
}
struct Sum {  // in blocks, so that the error grows with the square root of the length
  V part{}, total{};
  int count = 0;
  void add(V v) {
    part += v;
    if (++count == 32) total += part, part = V{}, count = 0;
  }
  template <bool LANES> V value() { return across<LANES>(total + part, [](V a, V b) { return a + b; }); }
};

static inline V load(const float* p) { V v; memcpy(&v, p, BYTES); return v; }
static inline V load(const uint16_t* p) { H h; memcpy(&h, p, BYTES / 2); return (V)(__builtin_convertvector(h, U) << 16); }
static inline void store(float* p, V v) { memcpy(p, &v, BYTES); }
static inline void store(uint16_t* p, V v) {
#ifdef __AVX512BF16__
  __m256bh h = _mm512_cvtneps_pbh((__m512)v);
#else
  U bits = (U)v, rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  H h = __builtin_convertvector(v != v ? U{} + 0x7fc0 : rounded, H);
#endif
  memcpy(p, &h, BYTES / 2);
}

// The first `count` entries only; what is not loaded comes from `pad`.
#ifdef __AVX512BW__
static inline V load(const float* p, Index count, V pad) {
  return (V)_mm512_mask_loadu_ps((__m512)pad, (1 << count) - 1, p);
}
static inline V load(const uint16_t* p, Index count, V pad) {
  __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16((1 << count) - 1, p));
  return (V)_mm512_mask_slli_epi32((__m512i)pad, (1 << count) - 1, wide, 16);
}
static inline void store(float* p, V v, Index count) { _mm512_mask_storeu_ps(p, (1 << count) - 1, (__m512)v); }
static inline void store(uint16_t* p, V v, Index count) {
  uint16_t all[WIDTH];
  store(all, v);
  _mm256_mask_storeu_epi16(p, (1 << count) - 1, _mm256_loadu_si256((const __m256i*)all));
}
#else
template <class T> static inline V load(const T* p, Index count, V pad) {
  T all[WIDTH];
  store(all, pad);
  memcpy(all, p, count * sizeof(T));
  return load(all);
}
template <class T> static inline void store(T* p, V v, Index count) {
  T all[WIDTH];
  store(all, v);
  memcpy(p, all, count * sizeof(T));
}
#endif

// e^x to 2 ulp, or where the result becomes bfloat16 to 1e-5; 0 below -87 without AVX-512, else below -103; not for x > 88
template <bool HALF> static inline V exp(V x) {
  x = fill(-104.0f) > x ? fill(-104.0f) : x;
  V magic = fill(12582912.0f), n = (x * 1.44269504f + magic) - magic, p;
  V r = HALF ? x * 1.44269504f - n : (x - n * 0.693359375f) - n * -2.12194440e-4f;
  if (HALF) p = 1.0f + r * (0.69314718f + r * (0.24022651f + r * (0.055505365f + r * 0.0096838f)));
  else p = 1.0f + (r + r * r * (5.0000001201e-1f + r * (1.6666665459e-1f + r * (4.1665795894e-2f + r * (8.3334519073e-3f
             + r * (1.3981999507e-3f + r * 1.9875691500e-4f))))));
#ifdef __AVX512F__
  return (V)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
  return choose(x < -87.0f, V{}, p * (V)((__builtin_convertvector(n, I) + 127) << 23));
#endif
}
static inline V log(V x) {  // x > 0, normal
  I bits = (I)x, e = (bits - 0x3f3504f3) >> 23;
  V f = (V)(bits - (e << 23)) - 1.0f, n = __builtin_convertvector(e, V), z = f * f;
  V p = ((((((((7.0376836292e-2f * f - 1.1514610310e-1f) * f + 1.1676998740e-1f) * f - 1.2420140846e-1f) * f
        + 1.4249322787e-1f) * f - 1.6668057665e-1f) * f + 2.0000714765e-1f) * f - 2.4999993993e-1f) * f
        + 3.3333331174e-1f) * f * z;
  return n * 0.693359375f + (f + (p - 0.5f * z + n * -2.12194440e-4f));
}
