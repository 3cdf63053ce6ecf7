/* Causal attention of many short rows in bf16, where the processor multiplies pairs of bf16 (AVX512-BF16).
 *
 * One task is one span (a run of queries, and the keys that they see) and one key head. Everything lies transposed, keys by
 * queries, LANES queries side by side, so that softmax goes down the keys lane by lane and nothing is turned round between
 * the products:
 *
 *     S' = K Q'     P' = softmax(S')     O' = V' P'
 *     dP' = V dO'   dS' = P' (dP' - sum(P' dP'))   dV += P' dO   dK += dS' Q   dQ' = K' dS'
 *
 * A product reads its right side in pairs of rows: b[p][column] holds rows 2p and 2p + 1. Sums are fp32. What several spans
 * give to one key is added in the order of the spans: the same bits by any number of threads.
 */
#include "native.h"

#define LANES 32
#define TILE 8

typedef struct {
    i64 start, count, first_run, runs, keys, window;
} Span;

typedef struct {
    i64 start, stop;
} Keys;

int attention_takes(i64 size) {
#ifdef __AVX512BF16__
    return size % 32 == 0 && size <= 256;
#else
    return 0;
#endif
}

#ifdef __AVX512BF16__
static inline i64 round_up(i64 n, i64 to) { return (n + to - 1) / to * to; }

/* c (rows, columns) = or += a (rows, 2 pairs) b (pairs, columns); rows in eights, columns in thirty-twos. */
static inline void product(const uint16_t *a, i64 lda, const uint32_t *b, i64 ldb, float *c, i64 ldc, i64 rows, i64 columns, i64 pairs,
                           int add) {
    for (i64 n = 0; n < columns; n += 32)
        for (i64 m = 0; m < rows; m += TILE) {
            __m512 sum[TILE][2];
            for (int r = 0; r < TILE; r++)
                for (int h = 0; h < 2; h++)
                    sum[r][h] = add ? _mm512_loadu_ps(c + (m + r) * ldc + n + 16 * h) : _mm512_setzero_ps();
            for (i64 p = 0; p < pairs; p++) {
                __m512bh left = (__m512bh)_mm512_loadu_si512(b + p * ldb + n), right = (__m512bh)_mm512_loadu_si512(b + p * ldb + n + 16);
                for (int r = 0; r < TILE; r++) {
                    int pair;
                    memcpy(&pair, a + (m + r) * lda + 2 * p, 4);
                    __m512bh each = (__m512bh)_mm512_set1_epi32(pair);
                    sum[r][0] = _mm512_dpbf16_ps(sum[r][0], each, left);
                    sum[r][1] = _mm512_dpbf16_ps(sum[r][1], each, right);
                }
            }
            for (int r = 0; r < TILE; r++)
                for (int h = 0; h < 2; h++) _mm512_storeu_ps(c + (m + r) * ldc + n + 16 * h, sum[r][h]);
        }
}

/* Rows 2p and 2p + 1 side by side, from bf16 and from fp32; `rows` and `columns` are even, of fp32 columns in sixteens. */
static inline void pair_up(const uint16_t *x, i64 ldx, uint32_t *out, i64 rows, i64 columns) {
    for (i64 p = 0; p < rows / 2; p++)
        for (i64 c = 0; c < columns; c++) out[p * columns + c] = x[2 * p * ldx + c] | (uint32_t)x[(2 * p + 1) * ldx + c] << 16;
}

static inline __m512i rounded(const float *x) { return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(x))); }

static inline void pair_up_wide(const float *x, uint32_t *out, i64 rows, i64 columns) {
    for (i64 p = 0; p < rows / 2; p++)
        for (i64 c = 0; c < columns; c += 16) {
            __m512i even = rounded(x + 2 * p * columns + c), odd = rounded(x + (2 * p + 1) * columns + c);
            _mm512_storeu_si512(out + p * columns + c, _mm512_or_si512(even, _mm512_slli_epi32(odd, 16)));
        }
}

static inline void transpose(const uint32_t *x, i64 ldx, uint32_t *out, i64 ldo, i64 rows, i64 columns) {
    for (i64 r = 0; r < rows; r++)
        for (i64 c = 0; c < columns; c++) out[c * ldo + r] = x[r * ldx + c];
}

/* Up to `count` rows of one head, zeros behind them up to `room`. x: (tokens, heads, size) of the given strides. */
static inline void take(const uint16_t *x, i64 token, i64 size, i64 count, i64 room, uint16_t *out) {
    for (i64 i = 0; i < count; i++) memcpy(out + i * size, x + i * token, 2 * size);
    memset(out + count * size, 0, 2 * (room - count) * size);
}

static inline void take_keys(const uint16_t *x, i64 token, i64 size, const Span *span, const Keys *runs, i64 room, uint16_t *out) {
    i64 at = 0;
    for (i64 u = span->first_run; u < span->first_run + span->runs; u++) {
        i64 count = runs[u].stop - runs[u].start;
        take(x + runs[u].start * token, token, size, count, count, out + at * size);
        at += count;
    }
    memset(out + at * size, 0, 2 * (room - at) * size);
}

/* What a thread needs for one task. */
typedef struct {
    uint16_t *k, *v, *kt, *vt, *rows, *p, *ds;
    uint32_t *q_by_lane, *do_by_lane, *q_pairs, *do_pairs, *pairs;
    float *s, *dp, *o, *dk, *dv;
    char *all;
} Desk;

static Desk desk_of(i64 keys, i64 size, int *failed) {
    i64 n = round_up(keys, LANES), bytes[17], at = 0;
    Desk d;
    void **parts[17] = {(void **)&d.k,          (void **)&d.v,       (void **)&d.kt,       (void **)&d.vt,    (void **)&d.rows,  (void **)&d.p,
                        (void **)&d.ds,         (void **)&d.q_by_lane, (void **)&d.do_by_lane, (void **)&d.q_pairs, (void **)&d.do_pairs,
                        (void **)&d.pairs,      (void **)&d.s,       (void **)&d.dp,       (void **)&d.o,     (void **)&d.dk,    (void **)&d.dv};
    i64 each[17] = {2 * n * size, 2 * n * size, 2 * n * size, 2 * n * size, 2 * LANES * size, 2 * n * LANES, 2 * n * LANES,
                    2 * size * LANES, 2 * size * LANES, 2 * size * LANES, 2 * size * LANES, 4 * (n > LANES ? n : LANES) * (size > LANES ? size : LANES) / 2,
                    4 * n * LANES, 4 * n * LANES, 4 * size * LANES, 4 * n * size, 4 * n * size};
    for (int i = 0; i < 17; i++) {
        bytes[i] = at;
        at += round_up(each[i], 64);
    }
    d.all = (char *)scratch(at / 4, failed);
    for (int i = 0; i < 17 && d.all; i++) *parts[i] = d.all + bytes[i];
    return d;
}

/* Softmax down the keys [from, to) of each lane's scores, in fp32 in s; lane l sees keys [first[l], last[l]). */
static inline void softmax_lanes(float *s, const int32_t *first, const int32_t *last, i64 from, i64 to, float scale) {
    float top[LANES], sum[LANES];
    for (int l = 0; l < LANES; l++) top[l] = -FLT_MAX, sum[l] = 0;
    for (i64 j = from; j < to; j++)
        for (int l = 0; l < LANES; l++) {
            float x = s[j * LANES + l] * scale;
            x = (int32_t)j >= first[l] && (int32_t)j < last[l] ? x : -FLT_MAX;
            s[j * LANES + l] = x;
            top[l] = x > top[l] ? x : top[l];
        }
    for (i64 j = from; j < to; j++)
        for (int l = 0; l < LANES; l++) {
            float x = s[j * LANES + l], e = exp_of(x - top[l]);
            e = (int32_t)j >= first[l] && (int32_t)j < last[l] ? e : 0.0f;
            s[j * LANES + l] = e;
            sum[l] += e;
        }
    for (int l = 0; l < LANES; l++) sum[l] = 1.0f / sum[l];
    for (i64 j = from; j < to; j++)
        for (int l = 0; l < LANES; l++) s[j * LANES + l] *= sum[l];
}

/* Of the block of queries that begins at `at`: the keys each lane sees, and the rows [from, to) that any of them sees. */
static inline void seen_by(const Span *span, i64 at, int32_t *first, int32_t *last, i64 *from, i64 *to) {
    i64 count = span->count - at < LANES ? span->count - at : LANES, lowest = span->keys;
    for (int l = 0; l < LANES; l++) {
        i64 stop = l < count ? span->keys - span->count + at + l + 1 : span->keys - span->count + at + 1;
        i64 start = span->window && stop > span->window ? stop - span->window : 0;
        first[l] = start, last[l] = stop;
        lowest = start < lowest ? start : lowest;
    }
    *from = lowest / TILE * TILE;
    *to = round_up(span->keys - span->count + at + count, TILE);
}

/* The lanes of x (size, LANES) as rows of out in bf16, times `by`. */
static inline void give_lanes(float *x, float by, i64 size, i64 count, uint32_t *pairs, uint16_t *out, i64 token) {
    for (i64 i = 0; i < size * LANES; i++) x[i] *= by;
    pair_up_wide(x, pairs, size, LANES);
    for (i64 l = 0; l < count; l++)
        for (i64 p = 0; p < size / 2; p++) memcpy(out + l * token + 2 * p, pairs + p * LANES + l, 4);
}

/* A block of queries as rows, and by lane. */
static inline void take_lanes(const uint16_t *x, i64 token, i64 size, i64 count, uint16_t *rows, uint32_t *by_lane) {
    take(x, token, size, count, LANES, rows);
    transpose((const uint32_t *)rows, size / 2, by_lane, LANES, LANES, size / 2);
}

/* Rows of keys as columns: out (size, room). */
static inline void turn(const uint16_t *x, i64 size, i64 room, uint32_t *pairs, uint16_t *out) {
    pair_up(x, size, pairs, room, size);
    transpose(pairs, size, (uint32_t *)out, room / 2, room / 2, size);
}
#endif

/* out (T, kv groups, size) from q, k and v, each with the strides of a token and of a head. */
int attention_forward(const uint16_t *q, const uint16_t *k, const uint16_t *v, uint16_t *out, const Span *spans, i64 n, const Keys *runs,
                      i64 most, i64 kv, i64 groups, i64 size, i64 qt, i64 qh, i64 kt, i64 kh, i64 vt, i64 vh, float scale) {
    int failed = 0;
#ifdef __AVX512BF16__
#pragma omp parallel
    {
        Desk d = desk_of(most, size, &failed);
#pragma omp for schedule(dynamic, 1)
        for (i64 task = 0; task < n * kv; task++) {
            if (!d.all) continue;
            const Span *span = spans + task / kv;
            i64 head = task % kv, room = round_up(span->keys, TILE);
            take_keys(k + head * kh, kt, size, span, runs, room, d.k);
            take_keys(v + head * vh, vt, size, span, runs, room, d.v);
            turn(d.v, size, room, d.pairs, d.vt);
            for (i64 g = head * groups; g < (head + 1) * groups; g++)
                for (i64 at = 0; at < span->count; at += LANES) {
                    int32_t first[LANES], last[LANES];
                    i64 from, to, count = span->count - at < LANES ? span->count - at : LANES, token = span->start + at;
                    seen_by(span, at, first, last, &from, &to);
                    take_lanes(q + token * qt + g * qh, qt, size, count, d.rows, d.q_by_lane);
                    product(d.k + from * size, size, d.q_by_lane, LANES, d.s + from * LANES, LANES, to - from, LANES, size / 2, 0);
                    softmax_lanes(d.s, first, last, from, to, scale);
                    pair_up_wide(d.s + from * LANES, d.pairs, to - from, LANES);
                    product(d.vt + from, room, d.pairs, LANES, d.o, LANES, size, LANES, (to - from) / 2, 0);
                    give_lanes(d.o, 1.0f, size, count, d.pairs, out + (token * kv * groups + g) * size, kv * groups * size);
                }
        }
        free(d.all);
    }
#endif
    return failed;
}

/* The gradients: dq (T, kv groups, size) is written, dk and dv (T, kv, size), in fp32, are added to. dout has dq's layout. */
int attention_backward(const uint16_t *q, const uint16_t *k, const uint16_t *v, const uint16_t *dout, uint16_t *dq, float *dk, float *dv,
                       const Span *spans, i64 n, const Keys *runs, i64 most, i64 kv, i64 groups, i64 size, i64 qt, i64 qh, i64 kt, i64 kh,
                       i64 vt, i64 vh, float scale) {
    int failed = 0;
#ifdef __AVX512BF16__
#pragma omp parallel
    {
        Desk d = desk_of(most, size, &failed);
#pragma omp for ordered schedule(dynamic, 1)
        for (i64 task = 0; task < n * kv; task++) {
            const Span *span = spans + task / kv;
            i64 head = task % kv, room = round_up(span->keys, TILE), row = kv * groups * size;
            if (d.all) {
                take_keys(k + head * kh, kt, size, span, runs, room, d.k);
                take_keys(v + head * vh, vt, size, span, runs, room, d.v);
                turn(d.k, size, room, d.pairs, d.kt);
                memset(d.dk, 0, 4 * room * size);
                memset(d.dv, 0, 4 * room * size);
                for (i64 g = head * groups; g < (head + 1) * groups; g++)
                    for (i64 at = 0; at < span->count; at += LANES) {
                        int32_t first[LANES], last[LANES];
                        i64 from, to, count = span->count - at < LANES ? span->count - at : LANES, token = span->start + at;
                        seen_by(span, at, first, last, &from, &to);
                        take_lanes(q + token * qt + g * qh, qt, size, count, d.rows, d.q_by_lane);
                        pair_up(d.rows, size, d.q_pairs, LANES, size);
                        take_lanes(dout + token * row + g * size, row, size, count, d.rows, d.do_by_lane);
                        pair_up(d.rows, size, d.do_pairs, LANES, size);
                        product(d.k + from * size, size, d.q_by_lane, LANES, d.s + from * LANES, LANES, to - from, LANES, size / 2, 0);
                        softmax_lanes(d.s, first, last, from, to, scale);
                        product(d.v + from * size, size, d.do_by_lane, LANES, d.dp + from * LANES, LANES, to - from, LANES, size / 2, 0);
                        float dot[LANES] = {0};
                        for (i64 j = from; j < to; j++)
                            for (int l = 0; l < LANES; l++) dot[l] += d.s[j * LANES + l] * d.dp[j * LANES + l];
                        for (i64 j = from; j < to; j++)
                            for (int l = 0; l < LANES; l++) d.dp[j * LANES + l] = d.s[j * LANES + l] * (d.dp[j * LANES + l] - dot[l]);
                        row_done(d.p, from * LANES, (to - from) * LANES, 0, d.s + from * LANES);
                        row_done(d.ds, from * LANES, (to - from) * LANES, 0, d.dp + from * LANES);
                        product(d.p + from * LANES, LANES, d.do_pairs, size, d.dv + from * size, size, to - from, size, LANES / 2, 1);
                        product(d.ds + from * LANES, LANES, d.q_pairs, size, d.dk + from * size, size, to - from, size, LANES / 2, 1);
                        pair_up_wide(d.dp + from * LANES, d.pairs, to - from, LANES);
                        product(d.kt + from, room, d.pairs, LANES, d.o, LANES, size, LANES, (to - from) / 2, 0);
                        give_lanes(d.o, scale, size, count, d.pairs, dq + token * row + g * size, row);
                    }
            }
#pragma omp ordered
            if (d.all) {
                i64 at = 0;
                for (i64 u = span->first_run; u < span->first_run + span->runs; u++)
                    for (i64 t = runs[u].start; t < runs[u].stop; t++, at++)
                        for (i64 i = 0; i < size; i++) {
                            dk[(t * kv + head) * size + i] += scale * d.dk[at * size + i];
                            dv[(t * kv + head) * size + i] += d.dv[at * size + i];
                        }
            }
        }
        free(d.all);
    }
#endif
    return failed;
}
