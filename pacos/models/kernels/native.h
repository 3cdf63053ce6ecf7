/* What the files of kernels share: numbers in bf16, rows as floats, scratch memory, e^x. */
#pragma once
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

typedef int64_t i64;

enum { NO_MEMORY = 1, OUT_OF_RANGE = 2 };

/* Memory of this thread for n floats; NULL, and `failed` set, where there is none. */
static inline float *scratch(i64 n, int *failed) {
    float *own = malloc(n * sizeof(float));
    if (!own) {
#pragma omp atomic write
        *failed = NO_MEMORY;
    }
    return own;
}

static inline float widen(uint16_t b) {
    uint32_t u = (uint32_t)b << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static inline uint16_t narrow(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    if ((u & 0x7fffffff) > 0x7f800000) return 0x7fc0; /* not a number */
    u += 0x7fff + ((u >> 16) & 1);
    return (uint16_t)(u >> 16);
}

/* Row `at` as floats: where it lies if it is fp32, else widened into `own`. */
static inline const float *row_in(const void *x, i64 at, i64 n, int wide, float *own) {
    if (wide) return (const float *)x + at;
    const uint16_t *b = (const uint16_t *)x + at;
    for (i64 i = 0; i < n; i++) own[i] = widen(b[i]);
    return own;
}

/* Where to write row `at`, and the rounding of it afterwards. */
static inline float *row_out(void *x, i64 at, int wide, float *own) { return wide ? (float *)x + at : own; }

static inline void row_done(void *x, i64 at, i64 n, int wide, const float *own) {
    if (wide) return;
    uint16_t *b = (uint16_t *)x + at;
    i64 i = 0;
#ifdef __AVX512BF16__ /* the same rounding in one instruction; numbers below 1e-38 become zero */
    for (; i + 16 <= n; i += 16) _mm256_storeu_si256((__m256i *)(b + i), (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(own + i)));
#endif
    for (; i < n; i++) b[i] = narrow(own[i]);
}

/* e^x to 2 units in the last place, for x in [-87, 88]; smaller x gives a number near 1e-38. Vectorizes. */
static inline float exp_of(float x) {
    x = -87.0f > x ? -87.0f : x; /* in this order what is not a number stays so */
    x = 88.0f < x ? 88.0f : x;
    float k = rintf(x * 1.44269504088896341f);
    float r = x - k * 0.693359375f + k * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    uint32_t e = (uint32_t)((int32_t)k + 127) << 23; /* unsigned: k is below -127 where x is not a number */
    float scale;
    memcpy(&scale, &e, 4);
    return p * scale;
}

/* The largest of n values, in lanes so that it vectorizes. */
static inline float largest(const float *x, i64 n) {
    float lanes[16], top = -FLT_MAX;
    i64 i = 0;
    for (int j = 0; j < 16; j++) lanes[j] = -FLT_MAX;
    for (; i + 16 <= n; i += 16)
        for (int j = 0; j < 16; j++) lanes[j] = x[i + j] > lanes[j] ? x[i + j] : lanes[j];
    for (; i < n; i++) lanes[0] = x[i] > lanes[0] ? x[i] : lanes[0];
    for (int j = 0; j < 16; j++) top = lanes[j] > top ? lanes[j] : top;
    return top;
}

static inline float sigmoid_of(float x) { return 1.0f / (1.0f + exp_of(-x)); }
